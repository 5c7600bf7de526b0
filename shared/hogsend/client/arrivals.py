"""Waits for a consumer's messages, one at a time, and loses none to a caller who gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from nats.aio.msg import Msg

from hogsend.contract.errors import HogsendError
from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection
from hogsend.transport.in_flight import InFlightMessages

AGAIN_SECONDS = 5.0
"""An event that was handed out, and is not done when its iterator ends, comes again after this
long: a service that fails on it, and begins again, fails no faster."""
UNASKED_SECONDS = 10.0
"""How long a wait that was cut short goes on by itself, where others would get the event."""


class Source(Protocol):
    """A consumer, as far as it is used here."""

    heartbeat: float
    """Seconds between two heartbeats for a message, known when the first one comes."""

    def batches(self) -> AsyncIterator[list[Msg]]:
        """Messages, until the connection is closed."""

    async def delete_ephemeral(self) -> None:
        """Leave nothing behind that only this reader needs."""


class Arrivals:
    """Messages of one consumer, each in hand from when it arrives until it is acknowledged.

    One at most is in hand: the next is asked for when the one before is acknowledged.
    """

    def __init__(
        self,
        connection: Connection,
        source: Source,
        *,
        shared: bool,
    ) -> None:
        """Prepare without asking.

        Args:
            connection: where the messages come from.
            source: gives batches of one message each; asked again after a pause.
            shared: whether others get what this one gives back.
        """
        self._connection = connection
        self._source = source
        self._shared = shared
        self._batches: AsyncIterator[list[Msg]] | None = None
        self._in_flight = InFlightMessages(
            connection,
            lambda _what, error: connection.observe("error", f"cannot keep an event: {error}"),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[Msg | None] | None = None
        self._unasked: asyncio.TimerHandle | None = None
        self._refused: HogsendError | None = None
        self.ended = False
        """Whether there is no next message."""

    async def next(self) -> Msg | None:
        """Wait for the next message; None after the last one.

        Cancelled, the wait goes on by itself, and what comes of it is the next call's; where others
        would get it, for a while only. One call waits at a time.

        Raises:
            HogsendError: what the consumer raises, now and ever after.
        """
        if self._refused is not None:
            # A generator that has raised ends quietly; who asks again must not take that for all.
            raise self._refused
        if self._loop is None and not self.ended:
            self._loop = asyncio.get_running_loop()
            self._connection.add_close_hook(self.leave)
        if self._unasked is not None:
            self._unasked.cancel()
        while not self.ended:
            if (waiting := self._waiting) is None:
                # A cancellation would end a generator for good.
                waiting = self._waiting = asyncio.create_task(self._next())
            try:
                await asyncio.wait({waiting})
            except asyncio.CancelledError:
                self._goes_on_unasked()
                raise
            # Not before: a caller that is cancelled in the moment it arrives has not got it.
            if self._waiting is waiting:
                self._waiting = None
                # A pause cancels it, and this call may have come meanwhile.
                if not waiting.cancelled():
                    return waiting.result()
        return None

    def end(self) -> None:
        """Have no next message: what is in hand may still be acknowledged, and stays in hand."""
        self.ended = True
        if self._waiting is not None:
            self._soon(self._pause)

    def abandon(self) -> None:
        """Leave soon; there is no next call.

        May be called in any thread, as garbage is collected in any.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._soon, self.leave)

    async def leave(self) -> None:
        """Give back what was not acknowledged, and have no next message."""
        self.ended = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        await self._pause()
        await self._in_flight.nak_all(AGAIN_SECONDS)
        if self._loop is not None:
            await self._source.delete_ephemeral()
        # Cancelled before, the rest is done when the connection is closed.
        self._connection.remove_close_hook(self.leave)

    async def _pause(self) -> None:
        """Ask for nothing more, and give back what no call has returned."""
        if (waiting := self._waiting) is None:
            return
        waiting.cancel()
        await asyncio.wait({waiting})
        # A caller that still waited has taken it by now.
        if self._waiting is waiting:
            self._waiting = None
            if not waiting.cancelled():
                # A refusal is known by now: see `_next`.
                waiting.exception()
            await self._in_flight.nak_all(0)

    def _goes_on_unasked(self) -> None:
        # A program that keeps a cancelled task keeps what it read from, too, and may never ask
        # again.
        if self._shared and self._loop is not None:
            self._unasked = self._loop.call_later(UNASKED_SECONDS, self._soon, self._pause)

    def _soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run_in_background(work())

    async def _next(self) -> Msg | None:
        try:
            if self._batches is None:
                self._batches = self._source.batches()
            messages = await anext(self._batches, None)
        except HogsendError as error:
            self._refused = error
            raise
        except asyncio.CancelledError:
            self._batches = None
            raise
        if messages is None:
            return None
        # The call that takes it may come late.
        self._in_flight.add(messages)
        self._in_flight.interval = self._source.heartbeat
        if self._heartbeat is None:
            self._heartbeat = asyncio.create_task(self._in_flight.send_heartbeats())
        return messages[0]
