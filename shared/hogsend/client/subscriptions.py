"""Async iterators over events and credential changes."""

from __future__ import annotations

import re
import weakref
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.client.arguments import checked_text
from hogsend.client.decoding import CannotDecode, Decoder, Undecodable, call_undecodable
from hogsend.client.sequential_reader import SequentialReader
from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer, wait_until_connected
from hogsend.transport.follower import Follower

IDLE_CONSUMER_SECONDS = 300.0
"""After this long without a request, JetStream deletes an ephemeral consumer."""
MAX_DURABLE_BYTES = 255
"""The server uses a consumer's name as a directory name."""
ACK_WAIT_SECONDS = 30.0
"""After this long without a heartbeat for an event, JetStream redelivers it to another replica."""

_INVALID_IN_A_NAME = re.compile(r"[\s.*>/\\\x00-\x1f\x7f]")
"""Characters that JetStream refuses in a consumer's name."""

Names: TypeAlias = str | Sequence[str] | None
"""Event names: one, several, or None for all."""
E = TypeVar("E")
"""`Event`, or the caller's type of it."""


class _OneCall:
    """Raises for a call while another one waits."""

    def __init__(self) -> None:
        self._is_waiting = False

    def __enter__(self) -> None:
        if self._is_waiting:
            raise RuntimeError(
                "another task waits for the next one already: an iterator is one task's. Give each "
                "task an iterator of its own; those with the same durable share its events"
            )
        self._is_waiting = True

    def __exit__(self, *_error: object) -> None:
        self._is_waiting = False


class Events(AsyncIterator[E]):
    """Normalized events; created by `Client.events`."""

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
        self._reader = SequentialReader(connection, consumer, shared=durable is not None)
        # After a `break` out of the loop, the garbage collection of the iterator ends the reading.
        weakref.finalize(self, self._reader.abandon).atexit = False
        self._connection = connection
        self._decoder = decoder
        self._undecodable = undecodable
        self._message: Msg | None = None
        self._is_handled = True
        """False until `undecodable` has returned for the current message."""
        self._call = _OneCall()

    async def __anext__(self) -> E:
        """Acknowledge the event returned before, and wait for the next one.

        A returned event is not redelivered to another replica while the iterator and its process
        live. Once the client is stopped or closed the iterator ends, and an event that was not
        acknowledged by then is redelivered.

        Raises:
            CannotDecode: the event is not of the caller's type. The next call acknowledges it, as
                if it had been returned, and continues.
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
                    self._is_handled = False
                    await call_undecodable(self._undecodable, error)
                    self._is_handled = True

    def stop(self) -> None:
        """End the loop after the current event: see `Client.stop`."""
        self._reader.stop()

    async def aclose(self) -> None:
        """End at once. An unacknowledged event is redelivered, to any reader of the durable."""
        await self._reader.close()
        self._message = None

    async def _next(self) -> Msg:
        if self._message is not None and not (self._is_handled or self._connection.closed):
            # `undecodable` was cancelled or has raised, and is called for the same event again.
            return self._message
        try:
            await self._acknowledge()
        except nats.errors.ConnectionClosedError:
            raise StopAsyncIteration from None
        message = await self._reader.next()
        if message is None:
            raise StopAsyncIteration
        self._message = message
        return message

    async def _acknowledge(self) -> None:
        if self._message is not None:
            # While disconnected, nats-py would write it to a bounded buffer.
            await wait_until_connected(self._connection, stopped=lambda: self._reader.stopped)
            await self._message.ack()
            self._message = None


class CredentialChanges(AsyncIterator[CredentialChanged]):
    """Credential changes, in order of their version; created by `Client.credential_changes`."""

    def __init__(self, connection: Connection, provider: str | None) -> None:
        config = credentials_consumer(provider)
        self._follower = Follower(connection, StreamName.CREDENTIALS, config)
        self._received: deque[Msg] = deque()
        self._decoder = Decoder[CredentialChanged](CredentialChanged)
        self._seen = SeenChanges()
        self._call = _OneCall()
        self._stopped = False

    async def __anext__(self) -> CredentialChanged:
        """Wait for the next change that is newer than those returned before.

        Once the client is stopped or closed the iterator ends.

        Raises:
            CannotDecode: the message is not a credential change; the next call continues after it.
            Forbidden: this NATS user may not read credential changes.
            RuntimeError: another task waits for this iterator's next change.
        """
        with self._call:
            while True:
                if not self._received and not self._stopped:
                    self._received.extend(await self._follower.next())
                if self._stopped or not self._received:
                    raise StopAsyncIteration
                change = self._decoder.decode(self._received.popleft())
                if self._seen.is_newer(change):
                    return change

    def stop(self) -> None:
        """End the loop: see `Client.stop`."""
        self._stopped = True
        self._follower.stop()

    async def aclose(self) -> None:
        """End the iteration."""
        self.stop()


class SeenChanges:
    """Filters repeats: after a broken connection the last change is delivered again."""

    def __init__(self) -> None:
        """Start without a change."""
        self._versions: dict[str, int] = {}

    def is_newer(self, change: CredentialChanged) -> bool:
        """Return whether a change is newer than all its provider's changes before, and note it."""
        if change.version <= self._versions.get(change.provider, -1):
            return False
        self._versions[change.provider] = change.version
        return True


def events_consumer(names: Names, durable: str | None) -> ConsumerConfig:
    """Return the consumer of events with some names, or of all.

    A durable one starts with the oldest event, an ephemeral one with the next.

    Raises:
        InvalidRequest: an event name or the durable name is not valid.
    """
    filters = _subjects(names)
    has_several = len(filters) > 1
    return ConsumerConfig(
        durable_name=_checked_durable(durable),
        filter_subject=None if has_several else filters[0],
        filter_subjects=filters if has_several else None,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        deliver_policy=DeliverPolicy.ALL if durable else DeliverPolicy.NEW,
        inactive_threshold=None if durable else IDLE_CONSUMER_SECONDS,
    )


def credentials_consumer(provider: str | None) -> ConsumerConfig:
    """Return the consumer of credential changes, of one provider or all.

    It starts with the last change of each provider. The server keeps it in memory: on disk, its
    state would be two thirds of the server's work on a change. After a broken connection, and when
    the server has lost it, another one is created. That one starts with the last change of each
    provider again: see `SeenChanges`.

    Raises:
        InvalidRequest: the provider is not a string.
    """
    return ConsumerConfig(
        filter_subject=subjects.credential_changed(checked_text("provider", provider))
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
    checked_text("an event name", name)
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
    name = isinstance(durable, str) and checked_text("a durable's name", durable)
    if not name or len(name.encode()) > MAX_DURABLE_BYTES:
        raise InvalidRequest(f"a durable's name has 1 to {MAX_DURABLE_BYTES} bytes of text")
    if match := _INVALID_IN_A_NAME.search(name):
        raise InvalidRequest(f"a durable's name must not have {match[0]!r}: {name!r}")
    return name
