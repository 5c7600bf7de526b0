"""Rows stored a second, over pulling and acknowledging the same messages without storing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from nats.js.api import ConsumerConfig

from benchmarks.figures import Figure, median
from hogsend.contract import subjects
from hogsend.contract.headers import MESSAGE_ID, RECEIVED_AT, format_time
from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.app import started
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from services.ingest.app import MIGRATIONS, create_app
from services.ingest.settings import IngestSettings
from tests.servers import Servers

ROUNDS = 3
MESSAGES = 20_000
PEOPLE = 4_000
IN_FLIGHT = 500


async def measure(servers: Servers, operator: Connection) -> list[Figure]:
    """Alternate between the two, on the same messages under new ids."""
    await streams.reconcile(operator.js, User.INGEST)
    await operator.js.purge_stream(StreamName.WEBHOOKS)
    batch = IngestSettings().ingest_batch_size
    pulled, stored = [], []
    async with servers.fresh_database() as url:
        for number in range(ROUNDS):
            await publish(operator, f"pull-{number}")
            async with _connected(servers) as bus:
                pulled.append(await _pull_and_acknowledge(bus, batch))
            await publish(operator, f"store-{number}")
            stored.append(await store(servers, url, operator, batch))
    ratios = [one / base for one, base in zip(stored, pulled, strict=True)]
    return [
        Figure(
            "ingest rows / messages pulled and acknowledged",
            f"{median(ratios):.2f}",
            ">= 0.50",
            {
                "rows_per_second": round(median(stored)),
                "pulled_per_second": round(median(pulled)),
                "batch": batch,
                "people": PEOPLE,
            },
        )
    ]


@asynccontextmanager
async def _connected(servers: Servers) -> AsyncIterator[Connection]:
    # A connection for each measurement: an idle pull of the one before would take messages.
    bus = Connection(User.INGEST, servers.nats_url(User.INGEST))
    await bus.open()
    yield bus
    await bus.close()


async def publish(operator: Connection, run: str) -> None:
    """Queue the messages of a run, under ids of its own."""
    now = format_time(datetime.now(UTC))
    for start in range(0, MESSAGES, IN_FLIGHT):
        await asyncio.gather(
            *(
                operator.js.publish(
                    subjects.webhook("posthog"),
                    _body(number),
                    headers={
                        MESSAGE_ID: f"{run}-{number}",
                        RECEIVED_AT: now,
                    },
                )
                for number in range(start, start + IN_FLIGHT)
            )
        )


def _body(number: int) -> bytes:
    person = number % PEOPLE
    event = {
        "event": "$pageview",
        "distinct_id": f"u_{person}",
        "properties": {"$lib": "web", "plan": "free", "value": 149.9, "number": number},
        "timestamp": "2026-06-01T12:00:00.000Z",
    }
    properties = {"email": f"u{person}@example.com", "plan": "pro", "$geoip_country_code": "GB"}
    return json.dumps({"event": event, "person": {"properties": properties}}).encode()


async def _pull_and_acknowledge(bus: Connection, batch: int) -> float:
    config = ConsumerConfig(
        durable_name=INGEST_CONSUMER.durable_name,
        filter_subject=INGEST_CONSUMER.filter_subject,
        ack_policy=INGEST_CONSUMER.ack_policy,
        ack_wait=INGEST_CONSUMER.ack_wait,
        max_ack_pending=INGEST_CONSUMER.max_ack_pending,
        max_deliver=INGEST_CONSUMER.max_deliver,
    )
    seen = 0
    begun = time.perf_counter()
    async for messages in Consumer(bus, StreamName.WEBHOOKS, config, batch=batch).batches():
        for message in messages:
            await message.ack()
        seen += len(messages)
        if seen >= MESSAGES:
            break
    elapsed = time.perf_counter() - begun
    await bus.flush()
    return MESSAGES / elapsed


async def store(servers: Servers, url: str, operator: Connection, batch: int) -> float:
    """Store what is queued, and return the rows stored a second."""
    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, servers.nats_url(User.INGEST)))
    database = Database(url, "ingest", MIGRATIONS, pool_size=8)
    await database.connect()
    async with started(create_app(broker, database, batch_size=batch)):
        begun = time.perf_counter()
        while (await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        elapsed = time.perf_counter() - begun
    return MESSAGES / elapsed
