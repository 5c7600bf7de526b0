"""A minimal ingest for comparison: inserts each webhook as a row and publishes it as an event.

It has no contacts, reads nothing from the database, and stores a repeated webhook twice. The
difference to the real ingest is the cost of those features.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.events import Event
from hogsend.contract.headers import MESSAGE_ID, RECEIVED_AT
from hogsend.contract.streams import StreamName
from hogsend.contract.webhooks import PostHogWebhook
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.publisher import OutgoingMessage, Publisher

WORKERS = 4
COLUMNS = ("id", "event", "user_id", "properties", "occurred_at", "received_at")
TABLE = (
    "CREATE TABLE IF NOT EXISTS floor (id text, event text, user_id text, properties jsonb,"
    " occurred_at timestamptz, received_at timestamptz)"
)

_decode = msgspec.json.Decoder(PostHogWebhook).decode
_encode = msgspec.json.encode


async def consume(
    bus: Connection, pool: asyncpg.Pool[asyncpg.Record], config: ConsumerConfig, batch: int
) -> None:
    """Consume webhooks until cancelled, with as many concurrent batches as ingest."""
    publisher = Publisher(bus.client)
    async with asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(_work(bus, pool, publisher, config, batch))


async def _work(
    bus: Connection,
    pool: asyncpg.Pool[asyncpg.Record],
    publisher: Publisher,
    config: ConsumerConfig,
    batch: int,
) -> None:
    async for messages in Consumer(bus, StreamName.WEBHOOKS, config, batch=batch).batches():
        events = [_event(message) for message in messages]
        await pool.copy_records_to_table(
            "floor", columns=COLUMNS, records=[_row(event) for event in events]
        )
        await publisher.publish_all([_announcement(event) for event in events])
        for message in messages:
            await message.ack()


def _event(message: Msg) -> Event:
    headers = message.headers or {}
    webhook = _decode(message.data)
    return Event(
        id=headers[MESSAGE_ID],
        event=webhook.event.event,
        user_id=webhook.event.distinct_id,
        contact_key=webhook.event.distinct_id,
        source="posthog",
        occurred_at=datetime.fromisoformat(webhook.event.timestamp or headers[RECEIVED_AT]),
        received_at=datetime.fromisoformat(headers[RECEIVED_AT]),
        properties=webhook.event.properties,
        person_properties=webhook.person_properties,
    )


def _row(event: Event) -> Sequence[object]:
    properties = _encode(event.properties).decode()
    return (
        event.id,
        event.event,
        event.user_id,
        properties,
        event.occurred_at,
        event.received_at,
    )


def _announcement(event: Event) -> OutgoingMessage:
    return OutgoingMessage(subjects.event(event.event), _encode(event), {MESSAGE_ID: event.id})
