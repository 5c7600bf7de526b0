"""Async iterators over what the bus keeps: events and credential changes."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.events import Event
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import HEARTBEAT_SECONDS, Consumer, MessagesInHand

IDLE_CONSUMER_SECONDS = 300.0
"""After this long without a request, JetStream forgets a consumer that is not durable."""
ACK_WAIT_SECONDS = 30.0
"""After this long without a heartbeat for an event, JetStream redelivers it to another replica."""

T = TypeVar("T")


class _ResumableIterator(Generic[T]):
    """An iterator that goes on where it was after a caller gave up waiting."""

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        self._iterator = iterator
        self._waiting: asyncio.Task[T | None] | None = None

    async def next(self) -> T:
        """Wait for the next one; cancelled, the wait goes on for the next caller."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._next())
        try:
            # A cancellation would end a generator for good.
            found = await asyncio.shield(self._waiting)
        finally:
            if self._waiting.done():
                self._waiting = None
        if found is None:
            raise StopAsyncIteration
        return found

    async def _next(self) -> T | None:
        return await anext(self._iterator, None)


class Events(AsyncIterator[Event]):
    """Normalized events; made by `Client.events`."""

    def __init__(self, connection: Connection, name: str | None, durable: str | None) -> None:
        consumer = Consumer(connection, StreamName.EVENTS, events_consumer(name, durable), batch=1)
        self._batches = _ResumableIterator(consumer.batches())
        self._connection = connection
        self._in_hand: MessagesInHand | None = None
        self._message: Msg | None = None

    async def __anext__(self) -> Event:
        """Acknowledge the event handed out before, and wait for the next one.

        What is handed out stays this replica's for as long as the iterator and its process live.
        """
        if self._in_hand is None:
            self._in_hand = self._keep_alive()
        if self._message is not None:
            await self._message.ack()
            self._message = None
        (message,) = await self._batches.next()
        self._message = message
        self._in_hand.take([message])
        return msgspec.json.decode(message.data, type=Event)

    def _keep_alive(self) -> MessagesInHand:
        observe = self._connection.observe
        in_hand = MessagesInHand(
            self._connection,
            lambda _what, error: observe("error", f"cannot keep an event: {error}"),
            interval=HEARTBEAT_SECONDS,
        )
        heartbeat = asyncio.create_task(in_hand.keep_alive())
        # The heartbeat must not outlive the loop over this iterator, nor keep the iterator alive.
        weakref.finalize(self, heartbeat.cancel).atexit = False
        return in_hand


class CredentialChanges(AsyncIterator[CredentialChanged]):
    """Credential changes, each provider's in version order; made by `Client.credential_changes`."""

    def __init__(self, connection: Connection, provider: str | None) -> None:
        config = credentials_consumer(provider)
        consumer = Consumer(connection, StreamName.CREDENTIALS, config, batch=1)
        self._batches = _ResumableIterator(consumer.batches())
        self._versions: dict[str, int] = {}

    async def __anext__(self) -> CredentialChanged:
        """Wait for the next change that is newer than what was handed out before."""
        while True:
            (message,) = await self._batches.next()
            change = msgspec.json.decode(message.data, type=CredentialChanged)
            if change.version > self._versions.get(change.provider, -1):
                self._versions[change.provider] = change.version
                return change


def events_consumer(name: str | None, durable: str | None) -> ConsumerConfig:
    """The consumer of events of one name, or of all; a durable one starts at the oldest."""
    return ConsumerConfig(
        durable_name=durable,
        filter_subject=subjects.event(name) if name is not None else f"{subjects.EVENTS}.*",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        deliver_policy=DeliverPolicy.ALL if durable else DeliverPolicy.NEW,
        inactive_threshold=None if durable else IDLE_CONSUMER_SECONDS,
    )


def credentials_consumer(provider: str | None) -> ConsumerConfig:
    """The consumer of one provider's credential changes, or all: the last of each, then changes."""
    return ConsumerConfig(
        filter_subject=subjects.credential_changed(provider)
        if provider
        else f"{subjects.CREDENTIALS}.*.changed",
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        inactive_threshold=IDLE_CONSUMER_SECONDS,
    )
