"""Reads a JetStream consumer in batches.

One loop for every consumer of Hogsend: ingest's batches, analytics' deliveries to PostHog, and the
iterators of other people's services. It continues after reconnects, server restarts, and the
deletion of its consumer or stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.transport.connection import Connection
from hogsend.transport.ephemeral_consumer import EphemeralConsumer
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.foreign_consumer import ensure_consumer
from hogsend.transport.in_flight import HEARTBEAT_SECONDS
from hogsend.transport.own_consumer import Position, create_or_update
from hogsend.transport.pull import ConsumerGone, Pull
from hogsend.transport.read_failures import ReadFailures

RETRY_SECONDS = 0.5
HEARTBEATS_PER_ACK_WAIT = 3
"""How many heartbeats JetStream gets for a message before it would redeliver it."""

JETSTREAM_REPLY = b'{"type":"io.nats.jetstream.api.'
"""Start of every reply of JetStream's API. Its status messages are empty."""


class Consumer:
    """Pulls messages of one consumer, in batches. Several readers may share a durable consumer.

    A batch is returned as soon as there is one message, with all others available at that moment.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        config: ConsumerConfig,
        *,
        batch: int,
        adjust: bool = True,
        position: Position | None = None,
    ) -> None:
        """Prepare without a request.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: the consumer is created with it when missing, and again after a deletion.
            batch: maximum number of messages in a batch.
            adjust: whether to update an existing consumer to `config`. Otherwise it stays as it is,
                and one that reads something else is an error.
            position: where a recreated consumer starts; None for the start in `config`.
        """
        self._connection = connection
        self._stream = stream
        self._config = config
        self._ephemeral = (
            None if config.durable_name else EphemeralConsumer(connection, stream, config)
        )
        self._batch = batch
        self._adjust = adjust
        self._position = position
        self._failures = ReadFailures(connection, stream, config.durable_name)
        self.heartbeat = HEARTBEAT_SECONDS
        """Seconds between two heartbeats for a message in flight. Known after `ensure`."""

    async def ensure(self) -> str:
        """Create the consumer unless it exists, and return its name.

        Raises:
            ConsumerConflict: it exists, may not be adjusted, and reads other subjects or has
                another acknowledgement policy.
            Forbidden: this NATS user may not create or see it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        if not self._adjust:
            if self._ephemeral is not None:
                consumer = await self._ephemeral.ensure()
            else:
                consumer = await ensure_consumer(self._connection, self._stream, self._config)
            self.heartbeat = min(HEARTBEAT_SECONDS, consumer.ack_wait / HEARTBEATS_PER_ACK_WAIT)
            return consumer.name
        js = await self._connection.js_for(self._stream)
        if self._position is None:
            return (await create_or_update(js, self._stream, self._config)).name
        return (await self._position.ensure_consumer(js, self._stream, self._config)).name

    async def delete_ephemeral(self) -> None:
        """Delete the consumer if it is ephemeral. Does not raise."""
        if self._ephemeral is not None:
            await self._ephemeral.delete()

    async def batches(self) -> AsyncGenerator[list[Msg], None]:
        """Yield batches of unacknowledged messages, until the connection is closed.

        While reading fails, it is retried, and the connection's observer is notified of the reason.

        Raises:
            ConsumerConflict: see `ensure`.
            Forbidden: this NATS user may not create the consumer, or not read from it.
        """
        pull: Pull | None = None
        try:
            while True:
                try:
                    if pull is None:
                        await wait_until_connected(self._connection)
                        pull = await self._start()
                    pulled = await pull.next(self._batch)
                    self._failures.clear()
                    if messages := await self._drop_strays(pulled):
                        if self._position is not None:
                            self._position.note_delivered(messages[-1].metadata.sequence.stream)
                        yield messages
                    if pulled and self._ephemeral is not None:
                        self._ephemeral.note_handled(pulled[-1].metadata.sequence.stream)
                except nats.errors.ConnectionClosedError:
                    return
                except (*UNREACHABLE, ConsumerGone) as error:
                    self._failures.record(error)
                    if pull is not None:
                        await pull.stop()
                    pull = None
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            if pull is not None:
                await pull.stop()

    async def _drop_strays(self, messages: list[Msg]) -> list[Msg]:
        """Acknowledge and drop replies of JetStream that are in the stream (docs/adr/0012).

        A client of JetStream's API chooses the subject of the reply, which the server publishes
        with its own permissions, also to a subject of a stream. Never acknowledged, such a reply
        would be redelivered without end, and stop the readers of the stream.
        """
        kept = []
        for message in messages:
            if is_stray(self._connection, message):
                await message.ack()
            else:
                kept.append(message)
        return kept

    async def _start(self) -> Pull:
        pull = Pull(self._connection, self._stream, await self.ensure())
        await pull.start()
        return pull


async def wait_until_connected(
    connection: Connection, *, stopped: Callable[[], bool] = lambda: False
) -> None:
    """Wait until there is a connection to a server.

    Before the first one, a subscription would use an inbox that its NATS user may not read.

    Raises:
        nats.errors.ConnectionClosedError: it was closed, or `stopped` returned True meanwhile.
    """
    while not connection.connected:
        if connection.closed or stopped():
            raise nats.errors.ConnectionClosedError
        await asyncio.sleep(RETRY_SECONDS / 5)
    if connection.closed:
        # During a close there still is a connection.
        raise nats.errors.ConnectionClosedError


def is_stray(connection: Connection, message: Msg) -> bool:
    """Return whether a message is a reply of JetStream's that is in a stream (docs/adr/0012).

    Such a message is to be dropped, which is reported to the connection's observer.
    """
    is_reply = not message.data or message.data.startswith(JETSTREAM_REPLY)
    if is_reply:
        connection.observe("error", f"dropped a reply of JetStream's on {message.subject}")
    return is_reply
