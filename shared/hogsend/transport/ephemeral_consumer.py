"""Ephemeral consumers, which have no durable name: made again where they were when they are lost.

JetStream keeps such a consumer on one server, however many copies its stream has. No client can
read it while that server is down. JetStream forgets it when no client has asked for a while, which
a cut connection looks like. What was published meanwhile is still in the stream.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import nats.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

from hogsend.contract.consumers import API
from hogsend.transport.connection import MANAGEMENT_SECONDS, Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.foreign_consumer import (
    ConsumerLost,
    ConsumerUnreachable,
    FoundConsumer,
    forget,
    found_or_made,
    known_consumer,
    named,
)


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _Stream(msgspec.Struct, frozen=True):
    """JetStream's answer about a stream."""

    state: _State = _State()
    created: datetime | None = None
    """None when there is no such stream now."""


class EphemeralConsumer:
    """One reader's ephemeral consumer."""

    def __init__(self, connection: Connection, stream: str, config: ConsumerConfig) -> None:
        """Prepare without asking.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: has no durable name.
        """
        self._connection = connection
        self._stream = stream
        self._config = named(config)
        self._exists = False
        self._made_at: datetime | None = None
        self._done = 0

    def done(self, sequence: int) -> None:
        """Note that the message with this sequence need not come again."""
        self._done = max(self._done, sequence)

    async def found(self) -> FoundConsumer:
        """Find it, or make it: the first time as declared, later behind what is done.

        Raises:
            Forbidden: this NATS user may not make or see it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        if self._exists:
            try:
                return await known_consumer(self._connection, self._stream, self._name)
            except ConsumerLost:
                self._exists = False
            except ConsumerUnreachable:
                # Its server may come back with it: two of one name would be in each other's way.
                self._exists, self._config = False, named(self._config)
        try:
            found = await found_or_made(self._connection, self._stream, await self._placed())
        except UNREACHABLE:
            # It may have been given to a server that is not there, for good.
            self._config = named(self._config)
            raise
        if self._made_at is None:
            self._done = found.delivered
        self._exists, self._made_at = True, found.created
        return found

    async def forget(self) -> None:
        """Leave nothing of it at JetStream; raises nothing."""
        await forget(self._connection, self._stream, self._name)

    @property
    def _name(self) -> str:
        return str(self._config.name)

    async def _placed(self) -> ConsumerConfig:
        if self._made_at is None:
            return self._config
        subject = f"{API}.STREAM.INFO.{self._stream}"
        answer = await self._connection.request_raw(subject, b"", seconds=MANAGEMENT_SECONDS)
        stream = msgspec.json.decode(answer.data, type=_Stream)
        if stream.created is None:
            raise nats.errors.Error(f"there is no stream {self._stream} now")
        if stream.created > self._made_at:
            # Another stream than the one that was read: all of it is new.
            self._done = 0
            return self._config.evolve(deliver_policy=DeliverPolicy.ALL)
        # A stream that was restored from a backup may end before what was done.
        self._done = min(self._done, stream.state.last_seq)
        return self._config.evolve(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._done + 1
        )
