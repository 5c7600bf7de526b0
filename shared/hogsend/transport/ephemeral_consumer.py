"""Ephemeral consumers, which have no durable name: recreated at their position when they are lost.

JetStream keeps such a consumer on one server, however many replicas its stream has. No client can
read it while that server is down. JetStream also deletes it after a time without a request, for
example during a long disconnect. Messages published meanwhile are still in the stream.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import nats.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

from hogsend.contract.consumers import API
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.foreign_consumer import (
    ConsumerNotFound,
    ConsumerOffline,
    ExistingConsumer,
    delete_consumer,
    ensure_consumer,
    get_consumer,
    with_random_name,
)
from hogsend.transport.jetstream import MANAGEMENT_SECONDS


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0


class _StreamReply(msgspec.Struct, frozen=True):
    """JetStream's reply about a stream."""

    state: _State = _State()
    created: datetime | None = None
    """None when the stream does not exist now."""


class EphemeralConsumer:
    """The ephemeral consumer of one reader."""

    def __init__(self, connection: Connection, stream: str, config: ConsumerConfig) -> None:
        """Prepare without a request.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: without a durable name.
        """
        self._connection = connection
        self._stream = stream
        self._config = with_random_name(config)
        self._exists = False
        self._last_created: datetime | None = None
        self._handled = 0
        """Stream sequence up to which no message needs to be delivered again."""

    def note_handled(self, sequence: int) -> None:
        """Note that the message with this stream sequence need not be delivered again."""
        self._handled = max(self._handled, sequence)

    async def ensure(self) -> ExistingConsumer:
        """Return the consumer, and create it when missing.

        The first one is created as declared, a later one after the last handled message.

        Raises:
            Forbidden: this NATS user may not create or see it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        if self._exists:
            try:
                return await get_consumer(self._connection, self._stream, self._name)
            except ConsumerNotFound:
                self._exists = False
            except ConsumerOffline:
                # It may come back with its server, and would conflict with one of the same name.
                self._exists, self._config = False, with_random_name(self._config)
        try:
            consumer = await ensure_consumer(
                self._connection, self._stream, await self._config_at_position()
            )
        except UNREACHABLE:
            # JetStream may have placed it on a server that is down for good.
            self._config = with_random_name(self._config)
            raise
        if self._last_created is None:
            self._handled = consumer.delivered
        self._exists, self._last_created = True, consumer.created
        return consumer

    async def delete(self) -> None:
        """Delete the consumer. Does not raise."""
        await delete_consumer(self._connection, self._stream, self._name)

    @property
    def _name(self) -> str:
        return str(self._config.name)

    async def _config_at_position(self) -> ConsumerConfig:
        if self._last_created is None:
            return self._config
        subject = f"{API}.STREAM.INFO.{self._stream}"
        reply = await self._connection.request_raw(subject, b"", seconds=MANAGEMENT_SECONDS)
        stream = msgspec.json.decode(reply.data, type=_StreamReply)
        if stream.created is None:
            raise nats.errors.Error(f"there is no stream {self._stream} now")
        if stream.created > self._last_created:
            # Another stream of the same name: all its messages are new.
            self._handled = 0
            return self._config.evolve(deliver_policy=DeliverPolicy.ALL)
        # A stream that was restored from a backup may end before the last handled message.
        self._handled = min(self._handled, stream.state.last_seq)
        return self._config.evolve(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._handled + 1
        )
