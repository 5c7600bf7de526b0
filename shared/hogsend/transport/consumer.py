"""Async iterators over what the bus keeps: events and credential changes.

They outlive reconnections, server restarts and deleted consumers.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.events import Event
from hogsend.contract.streams import StreamName

if TYPE_CHECKING:
    from hogsend.transport.connection import Bus

_FETCH_SECONDS = 5.0
_GATHER_SECONDS = 0.01
_RETRY_SECONDS = 0.5
_IDLE_CONSUMER_SECONDS = 300.0
_SILENCE_SECONDS = 30.0
"""After this long without a word about an event, JetStream gives it to another replica."""
_IN_PROGRESS_SECONDS = 10.0
"""How often it hears of an event that is still being handled."""

_AWAY = (nats.errors.Error, js_errors.Error, TimeoutError, OSError)


async def pull(
    js: JetStreamContext, stream: str, config: ConsumerConfig, *, batch: int
) -> AsyncIterator[list[Msg]]:
    """Yield batches of up to `batch` unacknowledged messages, for ever.

    A batch comes as soon as there is one message. While NATS or the stream is away it waits and
    then goes on; a consumer somebody deleted is made again.
    """
    subscription: JetStreamContext.PullSubscription | None = None
    while True:
        try:
            if subscription is None:
                subscription = await _subscribe(js, stream, config)
            first = await subscription.fetch(1, timeout=_FETCH_SECONDS)
            yield first + await _what_else_is_there(subscription, batch - 1)
        except nats.errors.TimeoutError:
            if not await _consumer_exists(subscription):
                subscription = None
        except nats.errors.ConnectionClosedError:
            return
        except _AWAY:
            if subscription is not None:
                await subscription.unsubscribe()
            subscription = None
            await asyncio.sleep(_RETRY_SECONDS)


async def _subscribe(
    js: JetStreamContext, stream: str, config: ConsumerConfig
) -> JetStreamContext.PullSubscription:
    if config.durable_name is None:
        # A name of its own, because only named consumers have a subject permissions can tell.
        config = config.evolve(name=secrets.token_hex(8))
    info = await js.add_consumer(stream, config)
    return await js.pull_subscribe_bind(consumer=info.name, stream=stream)


async def _what_else_is_there(
    subscription: JetStreamContext.PullSubscription, most: int
) -> list[Msg]:
    # Asked for many at once, nats-py waits until it has them all or the time is over.
    if most < 1:
        return []
    try:
        return await subscription.fetch(most, timeout=_GATHER_SECONDS)
    except _AWAY:
        # Whatever it is, the message in hand goes first; the next fetch meets the same trouble.
        return []


async def _consumer_exists(subscription: JetStreamContext.PullSubscription | None) -> bool:
    if subscription is None:
        return False
    try:
        await subscription.consumer_info()
    except js_errors.NotFoundError:
        return False
    except _AWAY:
        return True
    return True


T = TypeVar("T")


class _Patient(Generic[T]):
    """An iterator that goes on where it was after a caller gave up waiting."""

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        self._iterator = iterator
        self._waiting: asyncio.Task[T | None] | None = None

    async def next(self) -> T:
        """Wait for the next one; cancelled, the wait goes on for whoever asks next."""
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
    """Normalized events; made by `Bus.events`."""

    def __init__(self, bus: Bus, name: str | None, durable: str | None) -> None:
        """See `Bus.events`."""
        consumer = ConsumerConfig(
            durable_name=durable,
            filter_subject=subjects.event(name) if name is not None else f"{subjects.EVENTS}.*",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_SILENCE_SECONDS,
            deliver_policy=DeliverPolicy.ALL if durable else DeliverPolicy.NEW,
            inactive_threshold=None if durable else _IDLE_CONSUMER_SECONDS,
        )
        self._batches = _Patient(pull(bus.js, StreamName.EVENTS, consumer, batch=1))
        self._bus = bus
        self._in_hand: Msg | None = None
        self._holding: asyncio.Task[None] | None = None

    async def __anext__(self) -> Event:
        """Acknowledge the event handed out before, and wait for the next one.

        What is handed out stays this replica's for as long as the iterator and its process live.
        """
        if self._holding is not None:
            self._holding.cancel()
        if self._in_hand is not None:
            await self._in_hand.ack()
            self._in_hand = None
        (message,) = await self._batches.next()
        self._in_hand = message
        self._holding = asyncio.create_task(_hold(weakref.ref(self), self._bus, message))
        return msgspec.json.decode(message.data, type=Event)


async def _hold(iterator: weakref.ref[Events], bus: Bus, message: Msg) -> None:
    """Keep JetStream from giving `message` to another replica, until nobody iterates any more."""
    while True:
        await asyncio.sleep(_IN_PROGRESS_SECONDS)
        if iterator() is None:
            return
        try:
            await message.in_progress()
        except (nats.errors.Error, OSError) as error:
            # It may be delivered again then, with the same id.
            bus.observe("error", f"cannot hold an event: {error}")


class CredentialChanges(AsyncIterator[CredentialChanged]):
    """Credential changes, each provider's in version order; made by `Bus.credential_changes`."""

    def __init__(self, bus: Bus, provider: str | None) -> None:
        """See `Bus.credential_changes`."""
        consumer = ConsumerConfig(
            filter_subject=subjects.credential_changed(provider)
            if provider
            else f"{subjects.CREDENTIALS}.*.changed",
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            inactive_threshold=_IDLE_CONSUMER_SECONDS,
        )
        self._batches = _Patient(pull(bus.js, StreamName.CREDENTIALS, consumer, batch=1))
        self._versions: dict[str, int] = {}

    async def __anext__(self) -> CredentialChanged:
        """Wait for the next change that is newer than what was handed out before."""
        while True:
            (message,) = await self._batches.next()
            change = msgspec.json.decode(message.data, type=CredentialChanged)
            if change.version > self._versions.get(change.provider, -1):
                self._versions[change.provider] = change.version
                return change
