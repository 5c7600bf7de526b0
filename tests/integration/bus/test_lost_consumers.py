"""A deleted consumer is recreated at its position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.contract import subjects
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.own_consumer import Position, create_or_update
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import eventually

STREAM = StreamName.ENGAGEMENT
OPENED = subjects.engagement("email.opened")
NEW = ConsumerConfig(
    durable_name="destination-1",
    filter_subject=f"{subjects.ENGAGEMENT}.>",
    deliver_policy=DeliverPolicy.NEW,
    ack_policy=AckPolicy.EXPLICIT,
    max_ack_pending=100,
)


@pytest.fixture
async def operator(servers: Servers, fresh_bus: None) -> AsyncIterator[Connection]:
    async with (
        connected(servers, User.OPERATOR) as operator,
        connected(servers, User.INGEST) as ingest,
    ):
        await streams.reconcile(ingest.js, User.INGEST)
        yield operator


class Reader:
    """Reads and acknowledges messages until it is stopped."""

    def __init__(self, connection: Connection) -> None:
        self.read: list[bytes] = []
        self._consumer = Consumer(connection, STREAM, NEW, batch=10, position=Position())
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for messages in self._consumer.batches():
            for message in messages:
                self.read.append(message.data)
                await message.ack()

    async def has(self, *bodies: bytes) -> bool:
        return set(bodies) <= set(self.read)

    async def stop(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])


async def exists(operator: Connection) -> bool:
    consumers = await operator.js.consumers_info(STREAM)
    return any(consumer.name == NEW.durable_name for consumer in consumers)


async def delete_consumer(operator: Connection) -> None:
    await operator.js.delete_consumer(STREAM, str(NEW.durable_name))


async def test_no_message_is_missed_that_was_published_while_the_consumer_was_deleted(
    servers: Servers, operator: Connection
) -> None:
    await operator.js.publish(OPENED, b"before")
    async with connected(servers, User.ANALYTICS) as analytics:
        reader = Reader(analytics)
        await eventually(lambda: exists(operator))
        for number in range(3):
            await delete_consumer(operator)
            await operator.js.publish(OPENED, b"while deleted %d" % number)
            await eventually(partial(reader.has, b"while deleted %d" % number))
        await reader.stop()
        assert b"before" not in reader.read
        # A service that starts later, with another declaration, updates the existing consumer.
        info = await create_or_update(analytics.js, STREAM, NEW.evolve(max_ack_pending=7))
    assert info.config.max_ack_pending == 7


async def test_the_position_in_a_deleted_stream_is_not_used_for_the_recreated_stream(
    servers: Servers, operator: Connection
) -> None:
    async with connected(servers, User.ANALYTICS) as analytics:
        reader = Reader(analytics)
        await eventually(lambda: exists(operator))
        for number in range(5):
            await operator.js.publish(OPENED, b"%d" % number)
        await eventually(lambda: reader.has(b"4"))
        await operator.js.delete_stream(STREAM)
        async with connected(servers, User.INGEST) as ingest:
            await streams.recreate_missing(ingest.js, User.INGEST)
        await eventually(lambda: exists(operator))
        await operator.js.publish(OPENED, b"in the new stream")
        await eventually(lambda: reader.has(b"in the new stream"))
        await reader.stop()
