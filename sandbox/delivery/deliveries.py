"""Delivers captured events to the webhooks of hog functions, in the background.

Follows nodejs/src/cdp/services/hog-executor.service.ts. The sandbox cannot run Hog programs: it
treats every enabled destination with an `inputs.url` like the webhook template.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import httpx
import msgspec
import structlog

from sandbox.clock import Clock, iso
from sandbox.delivery import retries
from sandbox.delivery.payload import globals_of, render
from sandbox.delivery.signing import UnusableSecret, signed, signing_key
from sandbox.delivery.targets import BlockedTarget, Target, resolve_target
from sandbox.functions.filters import matches, read_filters
from sandbox.functions.model import HogFunction
from sandbox.functions.store import HogFunctions
from sandbox.functions.templates import (
    SECRET_HEADERS,
    SIGNING_SECRET,
    sends_secret_headers,
    signs,
)
from sandbox.ingestion.events import CapturedEvent
from sandbox.ingestion.people import Person
from sandbox.options import Options

log = structlog.get_logger(__name__)

FETCH_SECONDS = 10.0
MAX_DELIVERIES = 10_000
"""Number of deliveries whose state is kept; the oldest are dropped."""


class Attempt(msgspec.Struct, frozen=True):
    """One request with its result: a status or an error."""

    status: int | None
    error: str | None
    milliseconds: float


class Delivery(msgspec.Struct):
    """The delivery of one event to one function's webhook."""

    id: str
    function_id: str
    function: str | None
    event_uuid: str
    event: str
    url: str
    outcome: str = "pending"
    """`pending`, `retrying`, `delivered`, `failed`, `blocked`, or `filtered`."""

    reason: str | None = None
    attempts: list[Attempt] = []
    next_attempt_at: str | None = None


class Message(msgspec.Struct, frozen=True):
    """The request of a delivery."""

    target: Target
    method: str
    headers: dict[str, str]
    body: bytes | None
    key: bytes | None = None
    """Key that signs each attempt, with the time of the attempt."""


class Deliveries:
    """All deliveries, and the tasks that run them."""

    def __init__(self, clock: Clock, functions: HogFunctions, options: Options) -> None:
        self._clock = clock
        self._functions = functions
        self._options = options
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: httpx.AsyncClient | None = None
        self.all: list[Delivery] = []

    def start(self, event: CapturedEvent, person: Person) -> None:
        """Start delivering an event to every enabled destination whose filters match it."""
        for function in self._functions.of_types(["destination"]):
            if function.enabled and self._functions.delivers:
                self._start(function, event, person)

    async def close(self) -> None:
        """Cancel the deliveries in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    def _start(self, function: HogFunction, event: CapturedEvent, person: Person) -> None:
        delivery = Delivery(
            str(uuid.uuid4()), function.id, function.name, event.uuid, event.event, ""
        )
        self.all.append(delivery)
        del self.all[:-MAX_DELIVERIES]
        try:
            filters = read_filters(function.filters)
            if not matches(filters, event.event, event.properties, person.properties):
                delivery.outcome = "filtered"
                return
            message = self._message(function, event, person, delivery)
        except UnusableSecret as error:
            delivery.outcome, delivery.reason = "failed", str(error)
            log.warning("not signed, so not delivered", name=event.event, reason=str(error))
            return
        except (BlockedTarget, ValueError) as error:
            delivery.outcome, delivery.reason = "blocked", str(error)
            log.warning("not delivered", name=event.event, reason=str(error))
            return
        task = asyncio.create_task(self._deliver(delivery, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _message(
        self, function: HogFunction, event: CapturedEvent, person: Person, delivery: Delivery
    ) -> Message:
        options = self._options
        values = globals_of(event, person, function, options.url, options.project_id)
        inputs: dict[str, Any] = {
            item.key: item.default
            for item in function.inputs_schema
            if item.default is not msgspec.UNSET
        }
        for key, item in function.inputs.items():
            if item.value is not msgspec.UNSET:
                inputs[key] = item.value
        names = ("url", "method", "headers", SECRET_HEADERS, "body")
        rendered = render({key: inputs.get(key) for key in names}, values)
        delivery.url = str(rendered["url"])
        target = resolve_target(delivery.url, options.resolve, anywhere=options.deliver_anywhere)
        method = str(rendered["method"] or "POST").upper()
        headers = _headers(rendered["headers"])
        if sends_secret_headers(function.hog):
            secret_headers = _headers(rendered[SECRET_HEADERS])
            replaced = set(map(str.lower, secret_headers))
            headers = {key: value for key, value in headers.items() if key.lower() not in replaced}
            headers |= secret_headers
        body = None if method in ("GET", "HEAD") else _text(rendered["body"]).encode()
        secret = inputs.get(SIGNING_SECRET) if signs(function.hog) else None
        return Message(target, method, headers, body, signing_key(secret) if secret else None)

    async def _deliver(self, delivery: Delivery, message: Message) -> None:
        for number in range(1, retries.ATTEMPTS + 1):
            attempt = await self._attempt(self._signed(delivery, message))
            delivery.attempts = [*delivery.attempts, attempt]
            delivery.next_attempt_at = None
            status = attempt.status
            if status is not None and status < retries.FIRST_FAILURE:
                delivery.outcome = "delivered"
                return
            delivery.reason = attempt.error or f"answered with {status}"
            if number >= retries.attempts_allowed(status):
                break
            wait = retries.delay(self._options.backoff_seconds, number)
            delivery.outcome = "retrying"
            delivery.next_attempt_at = iso(self._clock.now() + wait)
            await self._clock.sleep(wait)
        delivery.outcome = "failed"
        log.warning("webhook not delivered", name=delivery.event, reason=delivery.reason)

    def _signed(self, delivery: Delivery, message: Message) -> Message:
        if message.key is None:
            return message
        headers = signed(
            message.headers,
            message.key,
            id=f"msg_{delivery.id}",
            # The real time, not the sandbox's: receivers compare it with their own clock.
            seconds=int(time.time()),
            body=message.body or b"",
        )
        return msgspec.structs.replace(message, headers=headers)

    async def _attempt(self, message: Message) -> Attempt:
        started = time.perf_counter()
        status: int | None = None
        error: str | None = None
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                status = (await self._fetch(message)).status_code
        except TimeoutError:
            error = f"no answer within {FETCH_SECONDS:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as failure:
            # A header or URL that contains values of an event may be invalid.
            error = f"{type(failure).__name__}: {failure}"
        elapsed = round((time.perf_counter() - started) * 1000, 1)
        return Attempt(status, error, elapsed)

    async def _fetch(self, message: Message) -> httpx.Response:
        try:
            return await self._send(message)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # The server may have closed a kept-alive connection: retry once on a new one.
            return await self._send(message)

    async def _send(self, message: Message) -> httpx.Response:
        if self._http is None:
            # Without a limit no request waits for a connection. A request that is cancelled while
            # it waits would leak a connection of the pool, until none is free.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            self._http = httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=False, limits=limits)
        return await self._http.request(
            message.method,
            message.target.url,
            headers={**message.headers, "Host": message.target.host_header},
            content=message.body,
            extensions={"sni_hostname": message.target.server_name},
        )


def _headers(value: Any) -> dict[str, str]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): _text(header) for name, header in items}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
