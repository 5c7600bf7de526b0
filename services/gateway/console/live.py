"""Streams announced events to pages of the console, as server-sent events.

The gateway subscribes to events only while a page watches. Each page has a small buffer that is
sent four times a second. Events that do not fit are counted and skipped, so the cost of a stream
does not depend on the rate of events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import structlog
from nats.aio.msg import Msg

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import EVENT_ANNOUNCED, EventBase
from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics
from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

MAX_WATCHERS = 16
"""Concurrent streams of one gateway."""
SEND_SECONDS = 0.25
MAX_EVENTS = 40
"""Events that are sent to a watcher at a time."""
MAX_CHARACTERS = 100
"""Limit for a name, an id or a user id. The rest is clipped, because the page shows a list."""
STREAM_SECONDS = 300.0
"""Duration of a stream. The browser then opens another one, and its session is checked again."""
PULSE_SECONDS = 15.0
"""Interval of pulses on a stream without events. They keep proxies from closing the connection, and
show the page that the gateway is alive."""
CLOSE_SECONDS = 1.0
"""Time in which a stopping gateway waits until clients have received the end of their streams."""
PENDING_BYTES = 16 * 1024 * 1024
"""Byte limit of the subscription's pending queue. Beyond it nats-py drops messages."""

# A browser does not dispatch an event without data to the page.
_PULSE = b"event: pulse\ndata: nothing new\n\n"
_UP = b"event: bus\ndata: up\n\n"
_DOWN = b"event: bus\ndata: down\n\n"

_decode = msgspec.json.Decoder(EventBase).decode


class TooManyWatchers(Exception):
    """`MAX_WATCHERS` streams are open already."""


@dataclass(frozen=True)
class EventFilter:
    """Filters that match exactly. None matches any value."""

    event: str | None = None
    user_id: str | None = None
    source: str | None = None

    def matches(self, event: EventBase) -> bool:
        """Whether an event matches all filters."""
        return (
            self.event in {None, event.event}
            and self.user_id in {None, event.user_id}
            and self.source in {None, event.source}
        )


class _Batch(msgspec.Struct, frozen=True):
    """The data of one server-sent event."""

    events: list[EventBase]
    skipped: int
    """Number of further events that matched but did not fit."""


@dataclass(eq=False)
class _Watcher:
    """A page that watches events, and the events to send to it next."""

    filters: EventFilter
    events: list[EventBase] = field(default_factory=list)
    skipped: int = 0

    def add(self, event: EventBase) -> None:
        if not self.filters.matches(event):
            return
        if len(self.events) < MAX_EVENTS:
            self.events.append(_clipped(event))
        else:
            self.skipped += 1

    def take_batch(self) -> bytes:
        batch = _Batch(self.events, self.skipped)
        self.events, self.skipped = [], 0
        return b"data: %s\n\n" % msgspec.json.encode(batch)


class LiveEvents:
    """The pages that watch events, and the one NATS subscription that they share."""

    def __init__(self, bus: Connection, every_seconds: float = SEND_SECONDS) -> None:
        self._bus = bus
        self._every_seconds = every_seconds
        self._watchers: set[_Watcher] = set()
        self._unsubscribe: Callable[[], Awaitable[None]] | None = None
        self._subscription_lock = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._open = 0
        """Responses with a stream that are not completely sent."""
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    async def close(self) -> None:
        """End every stream, wait until the ends are sent, and start no more streams.

        Call this before Granian stops. A stopping Granian no longer sends the end of a stream, but
        still waits for it.
        """
        self._stopped.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._all_sent.wait()

    async def sent(self) -> None:
        """Record that a response with a stream of `watch` was sent to its end."""
        self._open -= 1
        if self._open <= 0:
            self._all_sent.set()

    async def watch(self, filters: EventFilter) -> AsyncIterator[bytes]:
        """Start a stream of server-sent events.

        Raises:
            TooManyWatchers: `MAX_WATCHERS` streams are open already.
            Unavailable: NATS is unavailable, does not permit the subscription, or the gateway is
                stopping.
        """
        if self._stopped.is_set():
            raise Unavailable("the gateway is stopping")
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers
        stream = self._stream(_Watcher(filters))
        # The generator is started here, so that its `finally` runs even if the request is
        # cancelled. Otherwise the watcher would count as open for the rest of the process.
        await anext(stream)
        self._open += 1
        self._all_sent.clear()
        return stream

    async def _stream(self, watcher: _Watcher) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        self._watchers.add(watcher)
        try:
            await self._subscribe()
            yield b""
            # Sent at once, so that the browser reports the connection as open.
            yield b"retry: 1000\n\n"
            last_sent_at = now()
            ends_at = last_sent_at + STREAM_SECONDS
            connected = True
            while now() < ends_at and not await self._stops_within(self._every_seconds):
                if connected != self._bus.connected:
                    connected = self._bus.connected
                    last_sent_at = now()
                    yield _UP if connected else _DOWN
                if watcher.events:
                    last_sent_at = now()
                    yield watcher.take_batch()
                elif now() - last_sent_at >= PULSE_SECONDS:
                    last_sent_at = now()
                    yield _PULSE
        finally:
            self._watchers.discard(watcher)
            # In a separate task, because this one may be cancelled already.
            run_in_background(self._unsubscribe_without_watchers())

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopped.wait()
        except TimeoutError:
            return False

    async def _subscribe(self) -> None:
        async with self._subscription_lock:
            if self._unsubscribe is None:
                self._unsubscribe = await self._bus.listen(
                    EVENT_ANNOUNCED.subject, self._on_event, pending_bytes=PENDING_BYTES
                )

    async def _unsubscribe_without_watchers(self) -> None:
        async with self._subscription_lock:
            if not self._watchers and self._unsubscribe is not None:
                unsubscribe, self._unsubscribe = self._unsubscribe, None
                await unsubscribe()

    async def _on_event(self, message: Msg) -> None:
        try:
            event = _decode(message.data)
        except NOT_JSON as error:
            # An announcement of another version. The list of stored events contains the event.
            metrics.FAILURES.labels("live", type(error).__name__).inc()
            log.debug("an announcement is not shown live", reason=str(error))
            return
        for watcher in self._watchers:
            watcher.add(event)


def _clipped(event: EventBase) -> EventBase:
    def clip(text: str) -> str:
        return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}\u2026"

    return msgspec.structs.replace(
        event,
        id=clip(event.id),
        event=clip(event.event),
        user_id=clip(event.user_id),
        contact_key=clip(event.contact_key),
        source=clip(event.source),
    )
