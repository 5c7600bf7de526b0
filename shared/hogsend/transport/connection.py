"""The connection to NATS: publish durably, ask with a deadline, subscribe.

`connect` is all that a service of your own needs; see the README.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from hogsend.client import persons as analytics
from hogsend.client.persons import EngagementClient, FlagsClient, PersonsClient
from hogsend.contract.conditions import Condition
from hogsend.contract.errors import Forbidden, HogsendError, Unavailable, from_code
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.persons import Capture, Timezone
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.transport.consumer import CredentialChanges, Events
from hogsend.transport.publisher import GroupPublisher, Publisher
from hogsend.transport.tls import TlsClient, client_context

DEFAULT_URL = "nats://127.0.0.1:4222"
DEFAULT_DEADLINE = 2.0
"""Seconds a request may take unless the caller says otherwise."""
MANAGEMENT_SECONDS = 10.0
"""Seconds JetStream may take to make or change a stream or consumer, which waits for its disk."""

_PING_SECONDS = 5
_REFUSED_PUBLISH = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)

Observer = Callable[[str, str], None]
Hook = Callable[[], Awaitable[None]]


class Bus:
    """One connection of one process. It reconnects for ever; calls fail fast while it is away."""

    def __init__(
        self,
        user: str,
        url: str,
        *,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Prepare without connecting.

        Args:
            user: NATS user name; also picks the inbox prefix.
            url: NATS addresses, separated by commas; may carry user and password.
            password: password of `user` when the address carries none.
            tls: insist on TLS, in this way; see `hogsend.transport.tls`. An address `tls://`
                insists on it too, trusting the system's authorities.
            observer: told `(what happened, detail)` about connection changes and errors.
        """
        self._url = url
        self._password = password
        if tls is None and "tls://" in url:
            tls = client_context()
        self._tls = tls
        self.client = TlsClient() if tls is not None else Client()
        self.js: JetStreamContext = self.client.jetstream(timeout=MANAGEMENT_SECONDS)
        self._user = user
        self.observe: Observer = observer or (lambda _what, _detail: None)
        self._refusals: dict[str, asyncio.Future[None]] = {}
        self._reconnect_hooks: list[Hook] = []
        self._publisher = Publisher(self)
        self._groups: dict[str, GroupPublisher] = {}

    @property
    def connected(self) -> bool:
        """Whether the server can be talked to right now."""
        return self.client.is_connected

    @property
    def max_payload(self) -> int:
        """Largest message the server takes, in bytes; NATS' default while not connected."""
        return int(self.client.max_payload) if self.connected else 1024 * 1024

    async def open(self) -> None:
        """Connect, retrying for ever; cancel it to stop."""
        await self.client.connect(
            servers=self._url.split(","),
            name=f"hogsend-{self._user}",
            user=self._user if self._password is not None else None,
            password=self._password,
            tls=self._tls,
            inbox_prefix=inbox_prefix(self._user),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
        )
        self.observe("connected", _without_password(self._url))

    async def close(self) -> None:
        """Close at once; what must not be lost was acknowledged before."""
        await self.client.close()

    def on_reconnect(self, hook: Hook) -> None:
        """Run `hook` after every reconnection."""
        self._reconnect_hooks.append(hook)

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Publish to JetStream and wait until it is acknowledged.

        Raises:
            Unavailable: the server, or the stream, is away or slow.
            nats.js.errors.APIError: the stream refuses this message.
        """
        if not self.connected:
            raise Unavailable("NATS is not connected")
        try:
            await self.js.publish(subject, body, timeout=DEFAULT_DEADLINE, headers=headers)
        except js_errors.ServiceUnavailableError as error:
            raise Unavailable("JetStream is not available") from error
        except nats.errors.MaxPayloadError:
            raise
        except (js_errors.NoStreamResponseError, nats.errors.Error, TimeoutError) as error:
            raise Unavailable(f"JetStream did not acknowledge {subject}") from error

    async def flush(self, seconds: int = 10) -> None:
        """Wait until the server has seen everything sent so far, at most `seconds` twice.

        nats-py's own flush sends its PING ahead of what is still in its buffer. Once that is
        answered the buffer is out, and the answer to a second one comes after it.

        Raises:
            nats.errors.Error: the server is away or slow.
        """
        await self.client.flush(seconds)
        await self.client.flush(seconds)

    def group(self, stream: str) -> GroupPublisher:
        """What publishes to `stream` for many callers at once."""
        if stream not in self._groups:
            self._groups[stream] = GroupPublisher(self._publisher)
        return self._groups[stream]

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        *,
        deadline: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Ask a service and wait at most `deadline` seconds, by default the endpoint's.

        Raises:
            Unavailable: NATS or the service is away, or the deadline passed.
            Forbidden: this NATS user may not ask that.
            HogsendError: whatever typed error the service answered with.
        """
        if not self.connected:
            raise Unavailable("NATS is not connected")
        if deadline is None:
            deadline = endpoint.deadline
        subject = endpoint.subject
        refusal = self._refusals.get(subject)
        if refusal is None:
            refusal = self._refusals[subject] = asyncio.get_running_loop().create_future()
        asking = asyncio.ensure_future(
            self.client.request(
                subject, msgspec.json.encode(message), timeout=deadline, headers=headers
            )
        )
        waiting: set[asyncio.Future[Any]] = {asking, refusal}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            asking.cancel()
            raise
        if not asking.done():
            asking.cancel()
            raise Forbidden(f"NATS user {self._user!r} may not publish to {subject}")
        try:
            answer = asking.result()
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"the {endpoint.service} service is not running") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable(
                f"the {endpoint.service} service did not answer within {deadline:g} s"
            ) from error
        if answer.headers and ERROR_CODE_HEADER in answer.headers:
            raise from_code(answer.headers[ERROR_CODE_HEADER], answer.headers.get(ERROR_HEADER, ""))
        return msgspec.json.decode(answer.data, type=endpoint.reply)

    def events(self, name: str | None = None, *, durable: str | None = None) -> Events:
        """Normalized events, of one name or all, as an async iterator.

        With `durable` the position is kept under that name and shared by all replicas that use it,
        and an event counts as done once the loop asks for the next one, however long that takes;
        without it only events from now on are seen. Waiting for the next one may be cut short, by
        `asyncio.timeout` for example, and taken up again.
        """
        return Events(self, name, durable)

    def credential_changes(self, provider: str | None = None) -> CredentialChanges:
        """Credential changes, of one provider or all: the current state first, then changes."""
        return CredentialChanges(self, provider)

    @property
    def persons(self) -> PersonsClient:
        """PostHog's persons: read and write their properties."""
        return PersonsClient(self)

    @property
    def flags(self) -> FlagsClient:
        """PostHog's feature flags."""
        return FlagsClient(self)

    @property
    def engagement(self) -> EngagementClient:
        """Reports what services did with people."""
        return EngagementClient(self)

    async def capture(
        self,
        event: str,
        distinct_id: str,
        properties: Mapping[str, Any] | None = None,
        *,
        groups: Mapping[str, str] | None = None,
        **when: Any,
    ) -> None:
        """Capture an event in PostHog; it is durable when this returns.

        Without a project key nothing happens, silently.

        Args:
            event: its name.
            distinct_id: whose it is.
            properties: anything that is JSON.
            groups: group keys by group type.
            when: `timestamp`, by default now, and `id`, the event's uuid, by default made up.

        Raises:
            InvalidRequest: a name is blank or too long, or the properties are no JSON.
            Unavailable: the bus is away; nothing was accepted.
        """
        when.setdefault("timestamp", datetime.now(UTC))
        message = Capture(
            event=event,
            distinct_id=distinct_id,
            properties=dict(properties or {}),
            groups=dict(groups or {}),
            **when,
        )
        await analytics.capture(self, message)

    async def timezone(
        self, distinct_id: str, *, explicit: str | None = None, default: str | None = None
    ) -> Timezone:
        """Where somebody lives, as far as it is known, and how it is known (contract 4.2).

        `hogsend.client.local_time.next_moment` makes a moment of it.

        Args:
            distinct_id: whose.
            explicit: wins over everything known.
            default: stands in for `DEFAULT_TIMEZONE`.

        Raises:
            InvalidRequest: `explicit` is no IANA time zone.
        """
        return await analytics.timezone(self, distinct_id, explicit=explicit, default=default)

    async def conditions_met(
        self, people: Sequence[str], conditions: Sequence[Condition]
    ) -> list[bool]:
        """Whether all property conditions hold, for each of some people (contract 4.3).

        Raises:
            InvalidRequest: a condition cannot be evaluated as it is.
            Unavailable: analytics is away; there is no safe guess.
        """
        return await analytics.conditions_met(self, people, conditions)

    async def _on_error(self, error: Exception) -> None:
        self.observe("error", f"{type(error).__name__}: {error}")
        match = _REFUSED_PUBLISH.search(str(error))
        if match and (refusal := self._refusals.pop(match[1], None)) and not refusal.done():
            refusal.set_result(None)

    async def _on_disconnect(self) -> None:
        self.observe("disconnected", "")

    async def _on_reconnect(self) -> None:
        self.observe("reconnected", "")
        for hook in self._reconnect_hooks:
            await hook()


@asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    user: str = "subscriber",
    tls: ssl.SSLContext | None = None,
    wait: float = 10.0,
) -> AsyncIterator[Bus]:
    """Connect somebody's service to Hogsend's bus for the length of a `with` block.

    Args:
        url: NATS address, credentials included; `NATS_URL` from the environment by default.
        user: name this service is known by when the address does not carry one.
        tls: insist on TLS in this way; by default with the authority `NATS_TLS_CA` names, if any.
        wait: seconds to wait for the first connection.

    Raises:
        Unavailable: nothing answered at that address in time, or it refused the credentials.
    """
    address = url or os.environ.get("NATS_URL", DEFAULT_URL)
    if tls is None and (ca := os.environ.get("NATS_TLS_CA")):
        tls = client_context(Path(ca))
    seen: list[str] = []
    bus = Bus(
        urlsplit(address).username or user,
        address,
        tls=tls,
        observer=lambda _, detail: seen.append(detail),
    )
    try:
        await asyncio.wait_for(bus.open(), wait)
    except TimeoutError:
        await bus.close()
        reason = next((detail for detail in reversed(seen) if detail), "no answer")
        raise Unavailable(
            f"cannot reach NATS at {_without_password(address)} ({reason}); "
            "is it running, and is NATS_URL right?"
        ) from None
    try:
        yield bus
    finally:
        await bus.close()


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//", url)


__all__ = ["Bus", "HogsendError", "connect"]
