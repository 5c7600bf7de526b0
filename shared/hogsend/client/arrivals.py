"""Waits for a consumer's messages, one at a time, and loses none to a caller who gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from nats.aio.msg import Msg

from hogsend.contract.errors import HogsendError
from hogsend.transport.connection import Connection
from hogsend.transport.messages_in_hand import HEARTBEAT_SECONDS, MessagesInHand


class Arrivals:
    """Messages of one consumer, each in hand from when it arrives until it is acknowledged."""

    def __init__(self, connection: Connection, batches: AsyncIterator[list[Msg]]) -> None:
        """Prepare without asking.

        Args:
            connection: where the messages come from.
            batches: one message each.
        """
        self._batches = batches
        self._in_hand = MessagesInHand(
            connection,
            lambda _what, error: connection.observe("error", f"cannot keep an event: {error}"),
            interval=HEARTBEAT_SECONDS,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[Msg | None] | None = None
        self._refused: HogsendError | None = None

    async def next(self) -> Msg | None:
        """Wait for the next message; None after the last one.

        Cancelled, the wait goes on by itself, and what comes of it is the next call's. One call
        waits at a time.

        Raises:
            HogsendError: what the consumer raises, now and ever after.
        """
        if self._refused is not None:
            # A generator that has raised ends quietly; who asks again must not take that for all.
            raise self._refused
        if self._heartbeat is None:
            self._loop = asyncio.get_running_loop()
            self._heartbeat = asyncio.create_task(self._in_hand.keep_alive())
        if self._waiting is None:
            # A cancellation would end a generator for good.
            self._waiting = asyncio.create_task(self._next())
        await asyncio.wait({self._waiting})
        # Not before: a caller that is cancelled in the moment it arrives has not got it.
        arrived, self._waiting = self._waiting, None
        return arrived.result()

    def abandon(self) -> None:
        """Let JetStream give others what was not acknowledged; nobody will ask again.

        May be called in any thread, as garbage is collected in any.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in (self._heartbeat, self._waiting):
            if task is not None:
                task.cancel()

    async def _next(self) -> Msg | None:
        try:
            messages = await anext(self._batches, None)
        except HogsendError as error:
            self._refused = error
            raise
        if messages is None:
            return None
        # Whoever waits for it may come late.
        self._in_hand.take(messages)
        return messages[0]
