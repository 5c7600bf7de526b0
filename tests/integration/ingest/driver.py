"""Drives ingest in the test process: queues webhooks as the gateway does, and reads results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.dead_letters import DeadLetter, read_letter
from hogsend.contract.events import Event
from hogsend.contract.partitions import slot_of
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.contract.webhooks import PostHogEvent, PostHogWebhook
from hogsend.service import streams
from hogsend.service.app import started
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.migrations import migrate
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.transport.connection import Connection
from services.ingest.app import MIGRATIONS, create_app
from services.ingest.partitions.sharing import PACE, Pace
from tests.integration import harness
from tests.servers import Servers
from tests.waiting import eventually

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds that a test waits for an expected result."""


@asynccontextmanager
async def ingest_service(
    servers: Servers,
    database_url: str,
    *,
    batch_size: int = 500,
    consumes: bool = True,
    settle_seconds: float = 60.0,
    partitions: int = 1,
    pace: Pace = PACE,
) -> AsyncIterator[ServiceBroker]:
    """Run the ingest service, connected to NATS and PostgreSQL."""
    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, servers.nats_url(User.INGEST)))
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=4)
    await database.connect()
    app = create_app(
        broker,
        database,
        batch_size=batch_size,
        settle_seconds=settle_seconds,
        partitions=partitions,
        pace=pace,
    )
    if not consumes:
        for subscriber in broker.subscribers:
            if isinstance(subscriber, BatchSubscriber):
                subscriber._workers = 0
    try:
        async with started(app):
            yield broker
    finally:
        # A service that a test killed has not closed its pool.
        await database.close()


class Driver:
    """Queues messages, runs replicas, and reads what is stored and published."""

    def __init__(self, servers: Servers, database_url: str) -> None:
        self._servers = servers
        self.database_url = database_url
        self.gateway = Connection(User.GATEWAY, servers.nats_url(User.GATEWAY))
        self.operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        self.rows: asyncpg.Connection[asyncpg.Record]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect to the bus and the tables, migrated, with all streams."""
        async with AsyncExitStack() as stack:
            for bus in (self.gateway, self.operator):
                await bus.open()
                stack.push_async_callback(bus.close)
            async with harness.connected(self._servers, User.INGEST) as ingest:
                await streams.reconcile(ingest.js, User.INGEST)
            await migrate(PostgresAddress.parse(self.database_url), "ingest", MIGRATIONS)
            self.rows = await asyncpg.connect(self.database_url)
            stack.push_async_callback(self.rows.close)
            yield

    @asynccontextmanager
    async def replica(
        self,
        *,
        batch_size: int = 500,
        settle_seconds: float = 60.0,
        partitions: int = 1,
        pace: Pace = PACE,
    ) -> AsyncIterator[ServiceBroker]:
        """Run a replica that consumes and serves requests until the end of the block."""
        async with ingest_service(
            self._servers,
            self.database_url,
            batch_size=batch_size,
            settle_seconds=settle_seconds,
            partitions=partitions,
            pace=pace,
        ) as broker:
            yield broker

    @asynccontextmanager
    async def serving_requests(self) -> AsyncIterator[ServiceBroker]:
        """Run a replica that serves requests and consumes nothing."""
        async with ingest_service(self._servers, self.database_url, consumes=False) as broker:
            yield broker

    async def queue(self, body: bytes, slot: int | None = None, **headers: str) -> None:
        """Put a raw body on the webhook stream; header names have `_` for `-`."""
        header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.gateway.publish(subjects.webhook("posthog", slot), body, header_fields)

    async def post(
        self,
        id: str | None = "u-1",
        *,
        person: Any = None,
        received_at: str = "2026-01-01T00:00:00.000000Z",
        in_order: bool = False,
        **event: Any,
    ) -> None:
        """Queue a webhook of PostHog, as the gateway does."""
        fields = {"event": "signed_up", "distinct_id": "anna", **event}
        body = PostHogWebhook(PostHogEvent(uuid=id, **fields), person)
        headers = {"Hogsend_Received_At": received_at}
        if id:
            headers["Nats_Msg_Id"] = id
        slot = slot_of(body.event.distinct_id, body.email) if in_order else None
        await self.queue(msgspec.json.encode(body), slot, **headers)

    async def events(self, count: int) -> list[Event]:
        """Wait until every queue is empty, and read all events on the bus."""
        await self.drained()
        return await self._read(StreamName.EVENTS, _event, count)

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """Wait until every queue is empty, and read all dead letters."""
        await self.drained()
        return await self._read(StreamName.DEADLETTER, _letter, count)

    async def drained(self) -> None:
        """Wait until every queue is empty."""

        async def empty() -> bool:
            queued = [
                (await self.operator.js.stream_info(name)).state.messages
                for name in (StreamName.WEBHOOKS, StreamName.ENGAGEMENT, StreamName.AUDIT)
            ]
            return not any(queued)

        await eventually(empty, PATIENCE)

    async def stored(self, events: int) -> bool:
        """Whether at least this many events are stored."""
        return await self.count("events") >= events

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        return int(await self.rows.fetchval(f"SELECT count(*) FROM ingest.{table}"))  # noqa: S608

    async def contacts(self) -> list[asyncpg.Record]:
        """All contacts, oldest first."""
        return await self.rows.fetch("SELECT * FROM ingest.contacts ORDER BY created_at, id")

    async def _read(self, stream: str, read: Callable[[Msg], T], count: int) -> list[T]:
        js = self.operator.js
        info = await js.stream_info(stream)
        assert info.state.messages == count
        if not count:
            return []
        making = await self.operator.js_for(stream)
        consumer = await making.add_consumer(stream, ConsumerConfig(ack_policy=AckPolicy.NONE))
        subscription = await js.pull_subscribe_bind(consumer=consumer.name, stream=stream)
        messages = await subscription.fetch(count, timeout=PATIENCE)
        assert len(messages) == count
        return [read(message) for message in messages]


def _event(message: Msg) -> Event:
    return msgspec.json.decode(message.data, type=Event)


def _letter(message: Msg) -> DeadLetter:
    return read_letter(message.headers or {}, message.data)
