"""Async iterators over what the bus keeps: events and credential changes."""

from __future__ import annotations

import re
import weakref
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.client.arguments import text
from hogsend.client.arrivals import Arrivals
from hogsend.client.decoding import CannotDecode, Decoder, Undecodable, told
from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer, wait_until_connected
from hogsend.transport.follower import Follower

IDLE_CONSUMER_SECONDS = 300.0
"""After this long without a request, JetStream forgets a consumer that is not durable."""
MAX_DURABLE_BYTES = 255
"""A consumer's name is the name of its directory at the server."""
ACK_WAIT_SECONDS = 30.0
"""After this long without a heartbeat for an event, JetStream redelivers it to another replica."""

_NOT_IN_A_NAME = re.compile(r"[\s.*>/\\\x00-\x1f\x7f]")
"""What JetStream does not take in a consumer's name."""

Names: TypeAlias = str | Sequence[str] | None
"""Names of events: one, several, or None for all."""
E = TypeVar("E")
"""`Event`, or the caller's type of it."""


class _OneCall:
    """Refuses a call while another one waits."""

    def __init__(self) -> None:
        self._waits = False

    def __enter__(self) -> None:
        if self._waits:
            raise RuntimeError(
                "another task waits for the next one already: an iterator is one task's. Give each "
                "task an iterator of its own; those with the same durable share its events"
            )
        self._waits = True

    def __exit__(self, *_raised: object) -> None:
        self._waits = False


class Events(AsyncIterator[E]):
    """Normalized events; made by `Client.events`."""

    def __init__(
        self,
        connection: Connection,
        names: Names,
        durable: str | None,
        decoder: Decoder[E],
        undecodable: Undecodable | None = None,
    ) -> None:
        config = events_consumer(names, durable)
        consumer = Consumer(connection, StreamName.EVENTS, config, batch=1, adjust=False)
        self._arrivals = Arrivals(connection, consumer, shared=durable is not None)
        # Nothing may go on when the loop over this iterator is left, nor keep the iterator alive.
        weakref.finalize(self, self._arrivals.abandon).atexit = False
        self._connection = connection
        self._decoder = decoder
        self._undecodable = undecodable
        self._message: Msg | None = None
        self._is_told = True
        """False while `undecodable` has not returned for the message in hand."""
        self._call = _OneCall()

    async def __anext__(self) -> E:
        """Acknowledge the event handed out before, and wait for the next one.

        What is handed out stays this replica's for as long as the iterator and its process live.
        Once the client is stopped or closed the iterator ends; what was not acknowledged by then
        comes again.

        Raises:
            CannotDecode: the event is not of the caller's type. It is handed out all the same: the
                next call acknowledges it, and goes on.
            ConsumerConflict: the durable reads other events.
            Forbidden: this NATS user may not read events.
            RuntimeError: another task waits for this iterator's next event.
        """
        with self._call:
            while True:
                message = await self._next()
                try:
                    return self._decoder.decode(message)
                except CannotDecode as error:
                    if self._undecodable is None:
                        raise
                    self._is_told = False
                    await told(self._undecodable, error)
                    self._is_told = True

    def stop(self) -> None:
        """Let the loop end behind the event in hand: see `Client.stop`."""
        self._arrivals.end()

    async def aclose(self) -> None:
        """End at once; an event that is not done comes again, to any reader of the durable."""
        await self._arrivals.leave()
        self._message = None

    async def _next(self) -> Msg:
        if self._message is not None and not (self._is_told or self._connection.closed):
            # `undecodable` was cancelled, or raised: the event is not done.
            return self._message
        try:
            await self._acknowledge()
        except nats.errors.ConnectionClosedError:
            raise StopAsyncIteration from None
        message = await self._arrivals.next()
        if message is None:
            raise StopAsyncIteration
        self._message = message
        return message

    async def _acknowledge(self) -> None:
        if self._message is not None:
            # Written while NATS is down, it would wait in a buffer that has an end.
            await wait_until_connected(self._connection, stopped=lambda: self._arrivals.ended)
            await self._message.ack()
            self._message = None


class CredentialChanges(AsyncIterator[CredentialChanged]):
    """Credential changes, each provider's in version order; made by `Client.credential_changes`."""

    def __init__(self, connection: Connection, provider: str | None) -> None:
        config = credentials_consumer(provider)
        self._follower = Follower(connection, StreamName.CREDENTIALS, config)
        self._waiting: deque[Msg] = deque()
        self._decoder = Decoder[CredentialChanged](CredentialChanged)
        self._heard = ChangesHeard()
        self._call = _OneCall()
        self._stopped = False

    async def __anext__(self) -> CredentialChanged:
        """Wait for the next change that is newer than what was handed out before.

        Once the client is closed the iterator ends.

        Raises:
            CannotDecode: what was announced is no change; the next call goes on.
            Forbidden: this NATS user may not read credential changes.
            RuntimeError: another task waits for this iterator's next change.
        """
        with self._call:
            while True:
                if not self._waiting and not self._stopped:
                    self._waiting.extend(await self._follower.next())
                if self._stopped or not self._waiting:
                    raise StopAsyncIteration
                change = self._decoder.decode(self._waiting.popleft())
                if self._heard.is_news(change):
                    return change

    def stop(self) -> None:
        """Let the loop end: see `Client.stop`."""
        self._stopped = True
        self._follower.stop()

    async def aclose(self) -> None:
        """End."""
        self.stop()


class ChangesHeard:
    """What was heard of credentials: after a broken connection the last change comes again."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._versions: dict[str, int] = {}

    def is_news(self, change: CredentialChanged) -> bool:
        """Whether a change is newer than every one of its provider before; then it is heard."""
        if change.version <= self._versions.get(change.provider, -1):
            return False
        self._versions[change.provider] = change.version
        return True


def events_consumer(names: Names, durable: str | None) -> ConsumerConfig:
    """The consumer of events of some names, or of all; a durable one starts at the oldest.

    Raises:
        InvalidRequest: a name or the durable's cannot be meant.
    """
    wanted = _subjects(names)
    several = len(wanted) > 1
    return ConsumerConfig(
        durable_name=_checked_durable(durable),
        filter_subject=None if several else wanted[0],
        filter_subjects=wanted if several else None,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        deliver_policy=DeliverPolicy.ALL if durable else DeliverPolicy.NEW,
        inactive_threshold=None if durable else IDLE_CONSUMER_SECONDS,
    )


def credentials_consumer(provider: str | None) -> ConsumerConfig:
    """The consumer of one provider's credential changes, or all: the last of each, then changes.

    It is kept in the server's memory: on disk each change would be two thirds of what the server
    does for it. After a broken connection, and by a server that has forgotten it, another one is
    made, which begins with the last of each: see `ChangesHeard`.

    Raises:
        InvalidRequest: the provider is no text.
    """
    return ConsumerConfig(
        filter_subject=subjects.credential_changed(text("provider", provider))
        if provider
        else f"{subjects.CREDENTIALS}.*.changed",
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        inactive_threshold=IDLE_CONSUMER_SECONDS,
        mem_storage=True,
    )


def _subjects(names: object) -> list[str]:
    if names is None:
        return [f"{subjects.EVENTS}.*"]
    if isinstance(names, str):
        return [subjects.event(_checked_name(names))]
    if isinstance(names, (bytes, bytearray)) or not isinstance(names, Sequence):
        raise InvalidRequest(f"event names are text, or a list of texts, not {names!r}")
    if not names:
        raise InvalidRequest("no event name is given; leave the names out for all events")
    return sorted({subjects.event(_checked_name(name)) for name in names})


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidRequest(f"an event name is text, not {name!r}")
    text("an event name", name)
    if not name.strip():
        raise InvalidRequest("an event name is empty; leave the names out for all events")
    if name in {"*", ">"} or name.endswith((".*", ".>")):
        raise InvalidRequest(
            f"{name!r} is a pattern, and events are subscribed by name: give several names, or "
            "none for all events"
        )
    return name


def _checked_durable(durable: object) -> str | None:
    if durable is None:
        return None
    taken = isinstance(durable, str) and text("a durable's name", durable)
    if not taken or len(taken.encode()) > MAX_DURABLE_BYTES:
        raise InvalidRequest(f"a durable's name has 1 to {MAX_DURABLE_BYTES} bytes of text")
    if found := _NOT_IN_A_NAME.search(taken):
        raise InvalidRequest(f"a durable's name must not have {found[0]!r}: {taken!r}")
    return taken
