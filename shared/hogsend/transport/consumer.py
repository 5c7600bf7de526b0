"""Consumes a JetStream consumer in batches.

One loop for every consumer of Hogsend: ingest's batches, what analytics sends to PostHog, and the
iterators that other people's services use. It outlives reconnections, server restarts, and a
consumer or stream that was deleted.
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
from hogsend.transport.foreign_consumer import found_or_made
from hogsend.transport.in_flight import HEARTBEAT_SECONDS
from hogsend.transport.own_consumer import Position, create_or_update
from hogsend.transport.pull import ConsumerGone, Pull
from hogsend.transport.read_failures import ReadFailures

RETRY_SECONDS = 0.5
HEARTBEATS_IN_TIME = 3
"""How often JetStream hears of a message before it would give it again."""

JETSTREAM_ANSWER = b'{"type":"io.nats.jetstream.api.'
"""What every answer of JetStream's API begins with; its status messages are empty."""


class Consumer:
    """Pulls messages of one consumer, in batches; several of them may share a durable.

    A batch comes as soon as there is one message, with whatever else is there at that moment.
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
        """Prepare without asking.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: made when missing, and again when it was deleted.
            batch: most messages handed out at a time.
            adjust: give a consumer that exists this configuration; else it stays as it is, and one
                that reads something else is an error.
            position: where it begins when it is made again; None as declared.
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
        """Seconds between two heartbeats for a message in hand, known once it was found."""

    async def find(self) -> str:
        """Make the consumer unless it exists, and give its name.

        Raises:
            ConsumerConflict: it exists, may not be adjusted, and reads something else or in
                another way.
            Forbidden: this NATS user may not make or see it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        if not self._adjust:
            if self._ephemeral is not None:
                found = await self._ephemeral.found()
            else:
                found = await found_or_made(self._connection, self._stream, self._config)
            self.heartbeat = min(HEARTBEAT_SECONDS, found.ack_wait / HEARTBEATS_IN_TIME)
            return found.name
        js = await self._connection.js_for(self._stream)
        if self._position is None:
            return (await create_or_update(js, self._stream, self._config)).name
        return (await self._position.ensure_consumer(js, self._stream, self._config)).name

    async def forget(self) -> None:
        """Leave nothing at JetStream of a consumer that is not durable; raises nothing."""
        if self._ephemeral is not None:
            await self._ephemeral.forget()

    async def batches(self) -> AsyncGenerator[list[Msg], None]:
        """Yield unacknowledged messages, until the connection is closed.

        Its observer is told why the consumer cannot be read, while it is tried again.

        Raises:
            ConsumerConflict: see `find`.
            Forbidden: this NATS user may not make the consumer, or not read from it.
        """
        pull: Pull | None = None
        try:
            while True:
                try:
                    if pull is None:
                        await connected(self._connection)
                        pull = await self._start()
                    found = await pull.next(self._batch)
                    self._failures.clear()
                    if messages := await self._without_strays(found):
                        if self._position is not None:
                            self._position.note_delivered(messages[-1].metadata.sequence.stream)
                        yield messages
                    if found and self._ephemeral is not None:
                        self._ephemeral.done(found[-1].metadata.sequence.stream)
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

    async def _without_strays(self, messages: list[Msg]) -> list[Msg]:
        """Leave out what JetStream itself has put into the stream, as an answer (docs/adr/0012).

        A client that asks JetStream names the subject of its answer, and it answers with the
        server's rights. Redelivered without end, such an answer would stop the readers of the
        stream.
        """
        kept = []
        for message in messages:
            if is_stray(self._connection, message):
                await message.ack()
            else:
                kept.append(message)
        return kept

    async def _start(self) -> Pull:
        pull = Pull(self._connection, self._stream, await self.find())
        await pull.start()
        return pull


async def connected(connection: Connection, *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Wait for the connection: subscribing before would use an inbox its user may not read.

    Raises:
        nats.errors.ConnectionClosedError: it was closed, or `stopped` while it was awaited.
    """
    while not connection.connected:
        if connection.closed or stopped():
            raise nats.errors.ConnectionClosedError
        await asyncio.sleep(RETRY_SECONDS / 5)
    if connection.closed:
        # It still is connected while it is closed.
        raise nats.errors.ConnectionClosedError


def is_stray(connection: Connection, message: Msg) -> bool:
    """Whether JetStream itself has put this into its stream, as an answer (docs/adr/0012).

    The connection's observer is told, since it is to be left out.
    """
    stray = not message.data or message.data.startswith(JETSTREAM_ANSWER)
    if stray:
        connection.observe("error", f"an answer of JetStream's was left out, on {message.subject}")
    return stray
