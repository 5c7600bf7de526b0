"""The ingest service inside the test process, fed as the gateway feeds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import msgspec
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.events import Event
from hogsend.contract.streams import AUDIT_CONSUMER, ENGAGEMENT_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.contract.webhooks import PostHogEvent, PostHogWebhook
from hogsend.service import streams
from hogsend.service.database import Database
from hogsend.service.serving import serve, stop
from hogsend.transport.connection import Connection
from services.ingest.app import MIGRATIONS
from services.ingest.consuming import consume_forever
from services.ingest.handlers import Handlers
from tests.servers import Servers
from tests.waiting import eventually

PATIENCE = 30.0
"""Seconds a test waits for what must happen."""


class Driver:
    """Everything a test needs: a way in, and a look at what came of it."""

    def __init__(self, servers: Servers, database_url: str) -> None:
        self._servers = servers
        self.database_url = database_url
        self.gateway = Connection(User.GATEWAY, servers.nats_url(User.GATEWAY))
        self.operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        self.rows: asyncpg.Connection[asyncpg.Record]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect what looks at the bus and the tables, and what queues."""
        async with AsyncExitStack() as stack:
            for bus in (self.gateway, self.operator):
                await bus.open()
                stack.push_async_callback(bus.close)
            async with self.answering():
                pass
            self.rows = await asyncpg.connect(self.database_url)
            stack.push_async_callback(self.rows.close)
            yield

    @asynccontextmanager
    async def replica(self, *, batch_size: int = 500, workers: int = 2) -> AsyncIterator[Handlers]:
        """A replica that consumes until the end of the block."""
        async with self.answering() as (bus, handlers):
            webhooks = consume_forever(
                bus, handlers.webhooks, batch_size=batch_size, workers=workers
            )
            engagement = consume_forever(
                bus,
                handlers.engagement,
                batch_size=batch_size,
                workers=1,
                stream=StreamName.ENGAGEMENT,
                consumer=ENGAGEMENT_CONSUMER,
            )
            audit = consume_forever(
                bus,
                handlers.audit_entries,
                batch_size=batch_size,
                workers=1,
                stream=StreamName.AUDIT,
                consumer=AUDIT_CONSUMER,
            )
            tasks = [asyncio.create_task(one) for one in (webhooks, engagement, audit)]
            try:
                yield handlers
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                await stop(*tasks)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[tuple[Connection, Handlers]]:
        """A replica that answers requests but does not consume yet."""
        bus = Connection(User.INGEST, self._servers.nats_url(User.INGEST))
        await bus.open()
        database = Database(self.database_url, "ingest", MIGRATIONS, pool_size=4)
        await database.connect()
        await streams.reconcile(bus.js, User.INGEST)
        handlers = Handlers(bus, database)
        registered = await serve(bus, User.INGEST, handlers.all())
        await bus.flush()
        try:
            yield bus, handlers
        finally:
            await registered.stop()
            await bus.close()
            await database.close()

    async def queue(self, body: bytes, **headers: str) -> None:
        """Put a raw body on the webhook stream; header names have `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.gateway.publish(subjects.webhook("posthog"), body, named)

    async def post(
        self,
        id: str | None = "u-1",
        *,
        person: Any = None,
        received_at: str = "2026-01-01T00:00:00.000000Z",
        **event: Any,
    ) -> None:
        """Queue what PostHog would post, as the gateway does."""
        fields = {"event": "signed_up", "distinct_id": "anna", **event}
        body = PostHogWebhook(PostHogEvent(uuid=id, **fields), person)
        headers = {"Hogsend_Received_At": received_at}
        if id:
            headers["Nats_Msg_Id"] = id
        await self.queue(msgspec.json.encode(body), **headers)

    async def events(self, count: int) -> list[Event]:
        """Wait until everything is done with, and read all events on the bus."""
        await self.drained()
        return await self._read(StreamName.EVENTS, Event, count)

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """Wait until everything is done with, and read all dead letters."""
        await self.drained()
        return await self._read(StreamName.DEADLETTER, DeadLetter, count)

    async def drained(self) -> None:
        """Wait until nothing is queued."""

        async def empty() -> bool:
            queued = [
                (await self.operator.js.stream_info(name)).state.messages
                for name in (StreamName.WEBHOOKS, StreamName.ENGAGEMENT, StreamName.AUDIT)
            ]
            return not any(queued)

        await eventually(empty, PATIENCE)

    async def count(self, table: str) -> int:
        """Rows of a table."""
        return int(await self.rows.fetchval(f"SELECT count(*) FROM ingest.{table}"))  # noqa: S608

    async def contacts(self) -> list[asyncpg.Record]:
        """All contacts, oldest first."""
        return await self.rows.fetch("SELECT * FROM ingest.contacts ORDER BY created_at, id")

    async def _read(self, stream: str, type: type[Any], count: int) -> list[Any]:
        js = self.operator.js
        info = await js.stream_info(stream)
        assert info.state.messages == count
        if not count:
            return []
        consumer = await js.add_consumer(stream, ConsumerConfig(ack_policy=AckPolicy.NONE))
        subscription = await js.pull_subscribe_bind(consumer=consumer.name, stream=stream)
        messages = await subscription.fetch(count, timeout=PATIENCE)
        assert len(messages) == count
        return [msgspec.json.decode(message.data, type=type) for message in messages]
