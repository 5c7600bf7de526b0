"""Events as they are announced, for pages of the console that show them.

Without a watcher the gateway hears nothing. Each watcher has a small buffer that is sent four times
a second; what does not fit is counted and left out, so a stream costs the same at any rate.
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

MOST_WATCHERS = 16
"""Streams of one gateway at the same time."""
EVERY_SECONDS = 0.25
MOST_EVENTS = 40
"""Events a watcher is sent at a time."""
MOST_CHARACTERS = 100
"""Of a name, an id or a user id: more is not shown in a list."""
LIVES_SECONDS = 300.0
"""A stream ends after as long; the browser asks for another, and its session is looked at again."""
PULSE_SECONDS = 15.0
"""How often a stream without events says something, so that nothing between closes it, and the page
knows that the gateway is there."""
CLOSE_SECONDS = 1.0
"""How long a gateway that stops waits for clients to take the end of their streams."""
PENDING_BYTES = 16 * 1024 * 1024
"""Announcements that wait in this process; more are dropped by nats-py."""

# Without data a browser does not hand an event to the page.
_PULSE = b"event: pulse\ndata: nothing new\n\n"
_UP = b"event: bus\ndata: up\n\n"
_DOWN = b"event: bus\ndata: down\n\n"

_decode = msgspec.json.Decoder(EventBase).decode


class TooManyWatchers(Exception):
    """There are as many streams as this gateway gives."""


@dataclass(frozen=True)
class Wanted:
    """Filters, which match exactly; None means any."""

    event: str | None = None
    user_id: str | None = None
    source: str | None = None

    def take(self, event: EventBase) -> bool:
        """Whether an event is one of them."""
        return (
            self.event in {None, event.event}
            and self.user_id in {None, event.user_id}
            and self.source in {None, event.source}
        )


class _Batch(msgspec.Struct, frozen=True):
    """What a watcher is sent at a time."""

    events: list[EventBase]
    skipped: int
    """Events that matched and are not among them: there were too many."""


@dataclass(eq=False)
class _Watcher:
    wanted: Wanted
    events: list[EventBase] = field(default_factory=list)
    skipped: int = 0

    def hear(self, event: EventBase) -> None:
        if not self.wanted.take(event):
            return
        if len(self.events) < MOST_EVENTS:
            self.events.append(_clipped(event))
        else:
            self.skipped += 1

    def taken(self) -> bytes:
        batch = _Batch(self.events, self.skipped)
        self.events, self.skipped = [], 0
        return b"data: %s\n\n" % msgspec.json.encode(batch)


class LiveEvents:
    """Who watches, and the one subscription they share."""

    def __init__(self, bus: Connection, every_seconds: float = EVERY_SECONDS) -> None:
        self._bus = bus
        self._every_seconds = every_seconds
        self._watchers: set[_Watcher] = set()
        self._unsubscribe: Callable[[], Awaitable[None]] | None = None
        self._changing = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._open = 0
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    async def close(self) -> None:
        """End every stream and wait until that is sent; give no more.

        Granian does not send the end of a stream once it stops, and waits for it in vain.
        """
        self._stopped.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._all_sent.wait()

    async def sent(self) -> None:
        """Count a response as sent, with the stream of `watch` in it."""
        self._open -= 1
        if self._open <= 0:
            self._all_sent.set()

    async def watch(self, wanted: Wanted) -> AsyncIterator[bytes]:
        """Begin a stream of server-sent events.

        Raises:
            TooManyWatchers: there are too many.
            Unavailable: NATS is not there, refuses to let the gateway hear of events, or the
                gateway stops.
        """
        if self._stopped.is_set():
            raise Unavailable("the gateway stops")
        if len(self._watchers) >= MOST_WATCHERS:
            raise TooManyWatchers
        stream = self._stream(_Watcher(wanted))
        # One that has begun ends, whatever becomes of the request: else it would always count.
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
            # Said at once, so that the browser knows that it is connected.
            yield b"retry: 1000\n\n"
            said = now()
            ends = said + LIVES_SECONDS
            connected = True
            while now() < ends and not await self._stops_within(self._every_seconds):
                if connected != self._bus.connected:
                    connected = self._bus.connected
                    said = now()
                    yield _UP if connected else _DOWN
                if watcher.events:
                    said = now()
                    yield watcher.taken()
                elif now() - said >= PULSE_SECONDS:
                    said = now()
                    yield _PULSE
        finally:
            self._watchers.discard(watcher)
            # In a task of its own: this one may be cancelled already.
            run_in_background(self._unsubscribe_without_watchers())

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopped.wait()
        except TimeoutError:
            return False

    async def _subscribe(self) -> None:
        async with self._changing:
            if self._unsubscribe is None:
                self._unsubscribe = await self._bus.listen(
                    EVENT_ANNOUNCED.subject, self._heard, pending_bytes=PENDING_BYTES
                )

    async def _unsubscribe_without_watchers(self) -> None:
        async with self._changing:
            if not self._watchers and self._unsubscribe is not None:
                unsubscribe, self._unsubscribe = self._unsubscribe, None
                await unsubscribe()

    async def _heard(self, message: Msg) -> None:
        try:
            event = _decode(message.data)
        except NOT_JSON as error:
            # Of another version; the list of stored events has it.
            metrics.FAILURES.labels("live", type(error).__name__).inc()
            log.debug("an announcement is not shown live", reason=str(error))
            return
        for watcher in self._watchers:
            watcher.hear(event)


def _clipped(event: EventBase) -> EventBase:
    def clip(text: str) -> str:
        return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\u2026"

    return msgspec.structs.replace(
        event,
        id=clip(event.id),
        event=clip(event.event),
        user_id=clip(event.user_id),
        contact_key=clip(event.contact_key),
        source=clip(event.source),
    )
