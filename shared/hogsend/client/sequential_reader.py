"""Reads a consumer one message at a time; a cancelled wait loses no message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from nats.aio.msg import Msg

from hogsend.contract.errors import HogsendError
from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection
from hogsend.transport.in_flight import InFlightMessages

REDELIVERY_SECONDS = 5.0
"""Delay before an event is redelivered that was returned, but not acknowledged when its iterator
ended. It limits how fast a service can fail on one event in a restart loop."""
CANCELLED_WAIT_SECONDS = 10.0
"""How long a cancelled wait continues in the background where another replica could get the
event."""


class BatchSource(Protocol):
    """The methods of `Consumer` that are used here."""

    heartbeat: float
    """Seconds between two heartbeats for a message. Known when the first message arrives."""

    def batches(self) -> AsyncIterator[list[Msg]]:
        """Yield batches of messages, until the connection is closed."""

    async def delete_ephemeral(self) -> None:
        """Delete the consumer if it is ephemeral."""


class SequentialReader:
    """Reads one consumer, with at most one message in flight.

    A message gets heartbeats from its arrival to its acknowledgement. The next one is requested
    once the one before is acknowledged.
    """

    def __init__(
        self,
        connection: Connection,
        source: BatchSource,
        *,
        shared: bool,
    ) -> None:
        """Prepare without a request.

        Args:
            connection: where the messages come from.
            source: yields batches of one message each; iterated anew after a pause.
            shared: whether other readers get the messages that this one naks.
        """
        self._connection = connection
        self._source = source
        self._shared = shared
        self._batches: AsyncIterator[list[Msg]] | None = None
        self._in_flight = InFlightMessages(
            connection,
            lambda _operation, error: connection.observe("error", f"cannot keep an event: {error}"),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[Msg | None] | None = None
        """The wait for the next message, which may outlive the call that started it."""
        self._pause_timer: asyncio.TimerHandle | None = None
        self._error: HogsendError | None = None
        self.stopped = False
        """Whether there are no further messages."""

    async def next(self) -> Msg | None:
        """Wait for the next message; None after the last one.

        A cancelled wait continues in the background, and the next call returns its message. Where
        other readers could get the message, it continues for `CANCELLED_WAIT_SECONDS`. Only one
        call may wait at a time.

        Raises:
            HogsendError: an error of the consumer, also at every later call.
        """
        if self._error is not None:
            # A generator that has raised ends, which a later call would take for the end of the
            # stream.
            raise self._error
        if self._loop is None and not self.stopped:
            self._loop = asyncio.get_running_loop()
            self._connection.add_close_hook(self.close)
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        while not self.stopped:
            if (waiting := self._waiting) is None:
                # A task, as a cancellation would end the generator for good.
                waiting = self._waiting = asyncio.create_task(self._next())
            try:
                await asyncio.wait({waiting})
            except asyncio.CancelledError:
                self._pause_later()
                raise
            # Taken only here: a call that is cancelled as the message arrives does not return it.
            if self._waiting is waiting:
                self._waiting = None
                # A pause that ends during this call has cancelled the task.
                if not waiting.cancelled():
                    return waiting.result()
        return None

    def stop(self) -> None:
        """Return no further message. One that was returned stays in flight until `close`."""
        self.stopped = True
        if self._waiting is not None:
            self._run_soon(self._pause)

    def abandon(self) -> None:
        """Close soon; there is no further call.

        May be called in any thread, since a garbage collection may run in any.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._run_soon, self.close)

    async def close(self) -> None:
        """Nak the message that was not acknowledged, and return no further one."""
        self.stopped = True
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        await self._pause()
        await self._in_flight.nak_all(REDELIVERY_SECONDS)
        if self._loop is not None:
            await self._source.delete_ephemeral()
        # Last: after a cancellation, the close of the connection does the remaining steps.
        self._connection.remove_close_hook(self.close)

    async def _pause(self) -> None:
        """Stop waiting for a message, and nak one that no call has returned."""
        if (waiting := self._waiting) is None:
            return
        waiting.cancel()
        await asyncio.wait({waiting})
        # A call that was still waiting may have taken the message.
        if self._waiting is waiting:
            self._waiting = None
            if not waiting.cancelled():
                # Marks an error as retrieved; `_next` has stored it for the next call.
                waiting.exception()
            await self._in_flight.nak_all(0)

    def _pause_later(self) -> None:
        # A program that keeps a reference to a cancelled task also keeps the reader, and may never
        # read again.
        if self._shared and self._loop is not None:
            self._pause_timer = self._loop.call_later(
                CANCELLED_WAIT_SECONDS, self._run_soon, self._pause
            )

    def _run_soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run_in_background(work())

    async def _next(self) -> Msg | None:
        try:
            if self._batches is None:
                self._batches = self._source.batches()
            messages = await anext(self._batches, None)
        except HogsendError as error:
            self._error = error
            raise
        except asyncio.CancelledError:
            self._batches = None
            raise
        if messages is None:
            return None
        # At once, as the call that returns the message may come much later.
        self._in_flight.add(messages)
        self._in_flight.interval = self._source.heartbeat
        if self._heartbeats is None:
            self._heartbeats = asyncio.create_task(self._in_flight.send_heartbeats())
        return messages[0]
