"""Run a service on the bus: answer its requests as a NATS service (ADR-32), until told to stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Generic

import msgspec
import structlog
from nats.micro import add_service
from nats.micro.request import Request as MicroRequest
from nats.micro.service import Service

from hogsend import metrics
from hogsend.bus import Bus
from hogsend.channels import Endpoint, Reply, Request
from hogsend.envelope import CORRELATION_ID
from hogsend.errors import HogsendError, InvalidRequest, Unavailable
from hogsend.settings import BusSettings

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0
"""Longest a handler may take, in seconds; callers have usually stopped waiting before."""

MAX_CONCURRENT = 64


@dataclass(frozen=True)
class Handler(Generic[Request, Reply]):
    """One endpoint and the function that answers it."""

    endpoint: Endpoint[Request, Reply]
    answer: Callable[[Request], Awaitable[Reply]]


async def serve(bus: Bus, service: str, handlers: Sequence[Handler[Any, Any]]) -> Service:
    """Register `handlers` as the NATS service `hogsend-<service>`; `nats micro ls` shows it."""
    registered = await add_service(
        bus.client,
        name=f"hogsend-{service}",
        version=version("hogsend"),
        description=f"Hogsend's {service} service",
        queue_group=service,
    )
    slots = asyncio.Semaphore(MAX_CONCURRENT)
    for handler in handlers:
        await registered.add_endpoint(
            name=handler.endpoint.verb,
            subject=handler.endpoint.subject,
            queue_group=service,
            handler=_concurrently(handler, slots),
            metadata={"summary": handler.endpoint.summary},
        )
    return registered


def _concurrently(
    handler: Handler[Request, Reply], slots: asyncio.Semaphore
) -> Callable[[MicroRequest], Awaitable[None]]:
    # nats-py awaits one callback at a time; a task each keeps a slow answer from blocking others.
    running: set[asyncio.Task[None]] = set()

    async def start(request: MicroRequest) -> None:
        await slots.acquire()
        task = asyncio.create_task(_answer(handler, request))
        running.add(task)
        task.add_done_callback(running.discard)
        task.add_done_callback(lambda _task: slots.release())

    return start


async def _answer(handler: Handler[Request, Reply], request: MicroRequest) -> None:
    correlation = (request.headers or {}).get(CORRELATION_ID)
    with structlog.contextvars.bound_contextvars(correlation_id=correlation):
        started = time.perf_counter()
        code = "ok"
        try:
            message = _decode(handler.endpoint, request.data)
            reply = await asyncio.wait_for(handler.answer(message), ANSWER_SECONDS)
            await request.respond(msgspec.json.encode(reply))
        except HogsendError as error:
            code = error.code
            await request.respond_error(code, str(error))
        except TimeoutError:
            code = Unavailable.code
            await request.respond_error(code, "the service took too long")
        except Exception:
            code = HogsendError.code
            log.exception("request failed", verb=handler.endpoint.verb)
            await request.respond_error(code, "internal error")
        finally:
            elapsed = time.perf_counter() - started
            metrics.RPC_SECONDS.labels(handler.endpoint.verb, code).observe(elapsed)


def _decode(endpoint: Endpoint[Request, Reply], data: bytes) -> Request:
    try:
        return msgspec.json.decode(data or b"{}", type=endpoint.request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error


def open_bus(user: str, settings: BusSettings) -> tuple[Bus, asyncio.Task[None]]:
    """A bus of a service, and the task that connects it, which ends when it first succeeds."""
    bus = Bus(settings.nats_user or user, observer=_observe)
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    return bus, asyncio.create_task(bus.open(settings.nats_url, password=password))


async def until_stopped() -> None:
    """Wait for SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _observe(what: str, detail: str) -> None:
    metrics.BUS_EVENTS.labels(what).inc()
    if what == "error":
        log.warning("bus error", detail=detail)
        return
    metrics.BUS_CONNECTED.set(what != "disconnected")
    log.info("bus", state=what, server=detail)
