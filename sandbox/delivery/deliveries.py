"""Delivers captured events to the webhooks of hog functions, in the background.

Follows nodejs/src/cdp/services/hog-executor.service.ts. It runs no Hog: every enabled destination
with an `inputs.url` is treated like the webhook template.
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
from sandbox.delivery.payload import fill, globals_of
from sandbox.delivery.signing import UnusableSecret, signed, signing_key
from sandbox.delivery.targets import BlockedTarget, Target, resolve_target
from sandbox.functions.filters import matches, read_filters
from sandbox.functions.model import HogFunction
from sandbox.functions.store import HogFunctions
from sandbox.functions.templates import SIGNING_SECRET, signs
from sandbox.ingestion.events import CapturedEvent
from sandbox.ingestion.people import Person
from sandbox.options import Options

log = structlog.get_logger(__name__)

FETCH_SECONDS = 10.0
KEPT = 10_000


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
    """Signs each attempt, at its time."""


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
        """Start to deliver an event to every enabled destination whose filters match it."""
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
        del self.all[:-KEPT]
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
        for key, one in function.inputs.items():
            if one.value is not msgspec.UNSET:
                inputs[key] = one.value
        filled = fill(
            {key: inputs.get(key) for key in ("url", "method", "headers", "body")}, values
        )
        delivery.url = str(filled["url"])
        resolved = resolve_target(delivery.url, options.resolve, anywhere=options.deliver_anywhere)
        method = str(filled["method"] or "POST").upper()
        given = filled["headers"] if isinstance(filled["headers"], dict) else {}
        headers = {str(key): _text(value) for key, value in given.items()}
        body = None if method in ("GET", "HEAD") else _text(filled["body"]).encode()
        secret = inputs.get(SIGNING_SECRET) if signs(function.hog) else None
        return Message(resolved, method, headers, body, signing_key(secret) if secret else None)

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
            # The clock that receivers compare it with is the real one.
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
            # A header or URL with values of an event in it may be invalid.
            error = f"{type(failure).__name__}: {failure}"
        elapsed = round((time.perf_counter() - started) * 1000, 1)
        return Attempt(status, error, elapsed)

    async def _fetch(self, message: Message) -> httpx.Response:
        try:
            return await self._send(message)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # A kept-alive connection may have been closed: retry once on a new one.
            return await self._send(message)

    async def _send(self, message: Message) -> httpx.Response:
        if self._http is None:
            # No request waits for a connection: one that is given up while it waits leaves a
            # connection unused, until there is none left.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            self._http = httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=False, limits=limits)
        return await self._http.request(
            message.method,
            message.target.url,
            headers={**message.headers, "Host": message.target.host_header},
            content=message.body,
            extensions={"sni_hostname": message.target.server_name},
        )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
