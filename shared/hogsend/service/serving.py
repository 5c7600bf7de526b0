"""Run a service on the bus: answer its requests as a NATS service (ADR-32), until told to stop."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.micro import add_service
from nats.micro.request import Request as MicroRequest
from nats.micro.service import Service

from hogsend._version import __version__
from hogsend.contract import streams as stream_declarations
from hogsend.contract.errors import CannotStart, HogsendError, InvalidRequest, Unavailable
from hogsend.contract.headers import CORRELATION_ID
from hogsend.contract.health import ServiceHealth
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.service import metrics, streams
from hogsend.service.database import Database
from hogsend.service.settings import BusSettings
from hogsend.transport.connection import Connection, Hook
from hogsend.transport.tls import client_context

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0
"""Longest a handler may take, in seconds, unless its endpoint's deadline is longer."""

MAX_CONCURRENT = 64
RETRY_SECONDS = 1.0
KEEP_STREAMS_SECONDS = 5.0
"""How often a service looks whether its streams are still there."""
CANCEL_AGAIN_SECONDS = 0.5
DRAIN_SECONDS = 8.0
"""How long requests under way may take once a service was told to stop: it ends within ten."""

_STARTED = time.monotonic()


@dataclass(frozen=True)
class Handler(Generic[Request, Reply]):
    """One endpoint and the function that answers it."""

    endpoint: Endpoint[Request, Reply]
    answer: Callable[[Request], Awaitable[Reply]]


AnyHandler: TypeAlias = Handler[Any, Any]


class Serving:
    """A registered service, and the requests it is answering."""

    def __init__(self, registered: Service, answering: set[asyncio.Task[None]]) -> None:
        """Look after what `serve` registered."""
        self._registered = registered
        self._answering = answering

    async def stop(self) -> None:
        """Take no more requests, and answer those under way within `DRAIN_SECONDS`."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._registered.stop()
                while self._answering:
                    await asyncio.wait(self._answering)
        except (nats.errors.Error, TimeoutError) as error:
            metrics.FAILURES.labels("drain", type(error).__name__).inc()
            log.warning("stopped before every request was answered", left=len(self._answering))


async def serve(bus: Connection, service: str, handlers: Sequence[AnyHandler]) -> Serving:
    """Register `handlers` as the NATS service `hogsend-<service>`; `nats micro ls` shows it."""
    answering: set[asyncio.Task[None]] = set()
    registered = await add_service(
        bus.client,
        name=f"hogsend-{service}",
        version=__version__,
        description=f"Hogsend's {service} service",
        queue_group=service,
    )
    slots = asyncio.Semaphore(MAX_CONCURRENT)
    for handler in handlers:
        await registered.add_endpoint(
            name=handler.endpoint.verb,
            subject=handler.endpoint.subject,
            queue_group=service,
            handler=_concurrently(handler, slots, answering),
            metadata={"summary": handler.endpoint.summary},
        )
    return Serving(registered, answering)


def _concurrently(
    handler: Handler[Request, Reply],
    slots: asyncio.Semaphore,
    answering: set[asyncio.Task[None]],
) -> Callable[[MicroRequest], Awaitable[None]]:
    # nats-py awaits one callback at a time; a task each keeps a slow answer from blocking others.
    async def start(request: MicroRequest) -> None:
        await slots.acquire()
        task = asyncio.create_task(_answer(handler, request))
        answering.add(task)
        task.add_done_callback(answering.discard)
        task.add_done_callback(lambda _task: slots.release())

    return start


async def _answer(handler: Handler[Request, Reply], request: MicroRequest) -> None:
    correlation = (request.headers or {}).get(CORRELATION_ID)
    with structlog.contextvars.bound_contextvars(correlation_id=correlation):
        started = time.perf_counter()
        code = "ok"
        try:
            message = _decode(handler.endpoint, request.data)
            patience = max(ANSWER_SECONDS, handler.endpoint.deadline)
            reply = await asyncio.wait_for(handler.answer(message), patience)
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


def service_bus(user: User, settings: BusSettings) -> Connection:
    """Prepare the bus connection of one of our own services.

    Raises:
        CannotStart: a file named for TLS is of no use.
    """
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    return Connection(
        settings.nats_user or user,
        settings.nats_url,
        password=password,
        tls=_tls(settings),
        observer=_observe,
    )


def _tls(settings: BusSettings) -> ssl.SSLContext | None:
    ca, certificate = settings.nats_tls_ca, settings.nats_tls_cert
    if ca is None and certificate is None:
        return None
    try:
        return client_context(ca, certificate, settings.nats_tls_key)
    except OSError as error:
        named = [str(file) for file in (ca, certificate, settings.nats_tls_key) if file]
        raise CannotStart(f"TLS to NATS with {', '.join(named)}: {error}") from error


async def run_service(
    bus: Connection,
    user: User,
    *,
    handlers: Sequence[AnyHandler],
    background: Sequence[Coroutine[Any, Any, None]],
    limits: stream_declarations.Limits,
    connected: Hook | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT, or until one of its background tasks fails.

    Requests that are being answered then are answered first.

    It starts while NATS is away and registers its handlers once NATS is there. `background` is
    cancelled at the end; what a task holds then, it must be able to give back. `connected` runs
    once, when NATS is there.
    """
    stopped = asyncio.create_task(until_stopped())
    tasks = [asyncio.create_task(task) for task in background]
    tasks.append(asyncio.create_task(_keep_streams(bus, user, limits)))
    registering = asyncio.create_task(_register(bus, user, handlers, limits, connected))
    waiting: set[asyncio.Task[Any]] = {stopped, registering, *tasks}
    while not stopped.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    log.info("stopping")
    if registering.done():
        await registering.result().stop()
    await stop(registering, *tasks)
    await bus.close()


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended; what they raise meanwhile no longer matters.

    Once is not enough: nats-py swallows a cancellation that meets it while it flushes.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _register(
    bus: Connection,
    user: User,
    handlers: Sequence[AnyHandler],
    limits: stream_declarations.Limits,
    connected: Hook | None,
) -> Serving:
    await bus.open()
    while True:
        try:
            await streams.reconcile(bus.js, user, limits)
            break
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            metrics.FAILURES.labels("streams", type(error).__name__).inc()
            log.warning("streams are not ready yet", reason=str(error), fix=streams.hint(error))
            await asyncio.sleep(RETRY_SECONDS)
    if connected is not None:
        await connected()
    serving = await serve(bus, user, handlers)
    try:
        await bus.flush()
    except nats.errors.Error as error:
        # nats-py subscribes again once it is back.
        metrics.FAILURES.labels("register", type(error).__name__).inc()
        log.warning("NATS went away while the service registered", reason=str(error))
    log.info("serving", endpoints=[handler.endpoint.subject for handler in handlers])
    return serving


async def _keep_streams(bus: Connection, user: User, limits: stream_declarations.Limits) -> None:
    """Make streams again that went away while this runs: with JetStream's disk, or by hand."""
    while True:
        await asyncio.sleep(KEEP_STREAMS_SECONDS)
        if not bus.connected:
            continue
        try:
            made = await streams.restore(bus.js, user, limits)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            metrics.FAILURES.labels("streams", type(error).__name__).inc()
            log.warning("streams are not restored", reason=str(error), fix=streams.hint(error))
            continue
        if made:
            log.warning("streams were gone and are made again, empty", streams=made)


async def service_health(
    service: str, database: Database, credential_version: int | None = None
) -> ServiceHealth:
    """Health of this process and its database."""
    dependency, schema = await database.health()
    return ServiceHealth(
        service=service,
        uptime=round(time.monotonic() - _STARTED, 1),
        database=dependency,
        schema=schema,
        credential_version=credential_version,
    )


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
