"""Messages in flight: kept from being redelivered with heartbeats, and nak'ed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import nats.errors
from nats.aio.msg import Msg

from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE

HEARTBEAT_SECONDS = 10.0
"""Interval of the heartbeats of a message; well below the `ack_wait` of Hogsend's consumers."""
CLEAR_EVERY = 1000
"""After this many new messages, acknowledged ones are dropped."""
RECONNECT_POLL_SECONDS = 0.1
"""While disconnected, how often to check for a connection that heartbeats can be sent on."""
NAK_FLUSH_SECONDS = 2

_TOKENS_OF_REPLY, _SEQUENCE_TOKEN = 9, 5

Report = Callable[[str, Exception], None]
"""Called with `(operation, error)` for a failure that was handled."""


class InFlightMessages:
    """Delivered messages that are not acknowledged yet.

    JetStream redelivers a message after `ack_wait` without an acknowledgement or a heartbeat. Each
    message here gets heartbeats while it is in flight. A message that remains at the end is nak'ed,
    so that JetStream redelivers it without waiting for `ack_wait`.
    """

    def __init__(
        self, connection: Connection, report: Report, *, interval: float = HEARTBEAT_SECONDS
    ) -> None:
        """Start with no message.

        Args:
            connection: where the messages came from.
            report: called for heartbeats and naks that failed.
            interval: seconds between two heartbeats.
        """
        self._connection = connection
        self._report = report
        self.interval = interval
        """Seconds between two heartbeats."""
        self._messages: dict[int, Msg] = {}
        self._clear_at = CLEAR_EVERY

    def __len__(self) -> int:
        """Return the number of unacknowledged messages."""
        return len(self._unacknowledged())

    def add(self, messages: Iterable[Msg]) -> None:
        """Send heartbeats for these messages from now on."""
        # A redelivery replaces the first delivery of its message.
        self._messages.update((_sequence(message), message) for message in messages)
        # Acknowledged messages are dropped here as well as at each heartbeat: at thousands a
        # second they would be most of a process's memory by then.
        if len(self._messages) >= self._clear_at:
            self._clear_at = len(self._unacknowledged()) + CLEAR_EVERY

    @asynccontextmanager
    async def keeping_alive(
        self, nak_delay: float, on_released: Callable[[int], object] = lambda _count: None
    ) -> AsyncIterator[None]:
        """Send heartbeats during the block, and nak the remaining messages at its end.

        Args:
            nak_delay: seconds after which JetStream redelivers the nak'ed messages.
            on_released: called with the number of nak'ed messages.
        """
        heartbeats = asyncio.create_task(self.send_heartbeats())
        try:
            yield
        finally:
            heartbeats.cancel()
            on_released(await self.nak_all(nak_delay))

    async def send_heartbeats(self) -> None:
        """Send a heartbeat for each message at every interval.

        Returns when the connection is closed; cancel it to stop earlier.
        """
        is_disconnected = False
        while True:
            await asyncio.sleep(RECONNECT_POLL_SECONDS if is_disconnected else self.interval)
            is_disconnected = not (self._connection.connected or self._connection.closed)
            if is_disconnected:
                # Written now, heartbeats would fill nats-py's bounded buffer, which
                # acknowledgements need.
                continue
            try:
                for message in self._unacknowledged():
                    if not message.is_acked:
                        await message.in_progress()
            except nats.errors.ConnectionClosedError:
                return
            except (nats.errors.Error, OSError) as error:
                # JetStream may redeliver a message after that. Consumers handle repeats anyway.
                self._report("in_progress", error)

    async def nak_all(self, delay: float) -> int:
        """Nak all messages, to be redelivered after `delay` seconds, and return their number."""
        remaining = self._unacknowledged()
        self._messages.clear()
        if not remaining:
            return 0
        try:
            for message in remaining:
                if not message.is_acked:
                    await message.nak(delay)
            await self._connection.flush(NAK_FLUSH_SECONDS)
        except UNREACHABLE as error:
            # JetStream redelivers them after `ack_wait`, as their heartbeats have stopped.
            self._report("nak", error)
        return len(remaining)

    def _unacknowledged(self) -> list[Msg]:
        self._messages = {
            sequence: message
            for sequence, message in self._messages.items()
            if not message.is_acked
        }
        return list(self._messages.values())


def abandon(message: Msg) -> None:
    """Stop the heartbeats of a message, so that it is redelivered after its `ack_wait`.

    For a message whose nak failed: with heartbeats it would never be redelivered.
    """
    message._ackd = True  # noqa: SLF001


def _sequence(message: Msg) -> int:
    # Parsing all metadata of every message would take 4 % of ingest's time. See NATS ADR-15.
    tokens = message.reply.split(".")
    if len(tokens) == _TOKENS_OF_REPLY:
        return int(tokens[_SEQUENCE_TOKEN])
    # A longer reply subject also has a domain and an account.
    return message.metadata.sequence.stream
