"""Keeps messages that are worked on from being redelivered, and gives back what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import nats.errors
from nats.aio.msg import Msg

from hogsend.transport.connection import UNREACHABLE, Connection

HEARTBEAT_SECONDS = 10.0
"""How often JetStream hears that messages are still worked on; well below our own `ack_wait`."""
CLEAR_EVERY = 1000
"""New messages in hand after which acknowledged ones are dropped."""
AWAY_SECONDS = 0.1
"""How often it is looked whether there is a connection to send heartbeats on again."""
NAK_FLUSH_SECONDS = 2

_TOKENS_OF_REPLY, _SEQUENCE_TOKEN = 9, 5

Report = Callable[[str, Exception], None]
"""Told `(what was tried, why it failed)` about a failure that was handled."""


class MessagesInHand:
    """Messages that were handed out and are not acknowledged: kept alive, or given back.

    JetStream redelivers what it hears nothing about for `ack_wait`. While a message is in hand it
    hears a heartbeat; what is left over at the end is given back with a nak, so that another
    replica gets it at once.
    """

    def __init__(
        self, connection: Connection, report: Report, *, interval: float = HEARTBEAT_SECONDS
    ) -> None:
        """Hold nothing yet.

        Args:
            connection: where the messages came from.
            report: told about heartbeats and naks that failed.
            interval: seconds between two heartbeats.
        """
        self._connection = connection
        self._report = report
        self.interval = interval
        """Seconds between two heartbeats."""
        self._messages: dict[int, Msg] = {}
        self._clear_at = CLEAR_EVERY

    def __len__(self) -> int:
        """How many are in hand."""
        return len(self._unacknowledged())

    def take(self, messages: Iterable[Msg]) -> None:
        """Hold messages from now on."""
        # A message that is delivered again meanwhile takes the place of its first delivery.
        self._messages.update((_sequence(message), message) for message in messages)
        # Acknowledged ones must not wait for the next heartbeat: at thousands a second they would
        # be most of a process's memory.
        if len(self._messages) >= self._clear_at:
            self._clear_at = len(self._unacknowledged()) + CLEAR_EVERY

    def forget(self, messages: Iterable[Msg]) -> None:
        """Hold messages no longer, acknowledged or not."""
        for message in messages:
            self._messages.pop(_sequence(message), None)

    @asynccontextmanager
    async def held(
        self, delay: float, returned: Callable[[int], object] = lambda _count: None
    ) -> AsyncIterator[None]:
        """Keep what is in hand alive during the block, and give back at its end what is left.

        Args:
            delay: seconds after which that is redelivered.
            returned: told how many were given back.
        """
        beating = asyncio.create_task(self.keep_alive())
        try:
            yield
        finally:
            beating.cancel()
            returned(await self.nak_all(delay))

    async def keep_alive(self) -> None:
        """Tell JetStream again and again that what is in hand is worked on.

        Cancel it to stop; it ends by itself when the connection is closed.
        """
        away = False
        while True:
            await asyncio.sleep(AWAY_SECONDS if away else self.interval)
            if away := not (self._connection.connected or self._connection.closed):
                # What is written now would wait in a buffer that has an end, and that
                # acknowledgements have more use for.
                continue
            try:
                for message in self._unacknowledged():
                    if not message.is_acked:
                        await message.in_progress()
            except nats.errors.ConnectionClosedError:
                return
            except (nats.errors.Error, OSError) as error:
                # JetStream may redeliver then, which costs a repeat and nothing else.
                self._report("in_progress", error)

    async def nak_all(self, delay: float) -> int:
        """Give everything back, to be redelivered after `delay` seconds; gives how many."""
        left = self._unacknowledged()
        self._messages.clear()
        if not left:
            return 0
        try:
            for message in left:
                if not message.is_acked:
                    await message.nak(delay)
            await self._connection.flush(NAK_FLUSH_SECONDS)
        except UNREACHABLE as error:
            # They are redelivered all the same, once JetStream misses their heartbeat.
            self._report("nak", error)
        return len(left)

    def _unacknowledged(self) -> list[Msg]:
        self._messages = {key: one for key, one in self._messages.items() if not one.is_acked}
        return list(self._messages.values())


def abandon(message: Msg) -> None:
    """Keep a message alive no longer, so that it is redelivered once its `ack_wait` is over.

    For one that JetStream could not be told about: while it is in hand it never comes again.
    """
    message._ackd = True  # noqa: SLF001


def _sequence(message: Msg) -> int:
    # All metadata of every message would take 4 % of what ingest does; see NATS ADR-15.
    tokens = message.reply.split(".")
    if len(tokens) == _TOKENS_OF_REPLY:
        return int(tokens[_SEQUENCE_TOKEN])
    # It names a domain and an account, too.
    return message.metadata.sequence.stream
