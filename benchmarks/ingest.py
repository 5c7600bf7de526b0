"""Rows that ingest stores a second, compared with handling the same messages without ingest.

There are two comparisons: only pulling and acknowledging the messages, and inserting and publishing
them without contacts and deduplication (`ingest_floor`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg

from benchmarks import ingest_floor
from benchmarks.figures import Figure, median
from benchmarks.ids import new_id
from hogsend.contract import subjects
from hogsend.contract.headers import MESSAGE_ID, RECEIVED_AT, format_time
from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.app import started
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.tasks import cancel_all
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
    """Measure ingest in turn with each comparison, with the same messages under new ids."""
    await streams.reconcile(operator.js, User.INGEST)
    await operator.js.purge_stream(StreamName.WEBHOOKS)
    batch = IngestSettings().ingest_batch_size
    pulled = await _in_turn(servers, operator, batch, _pull_and_acknowledge)
    floor = await _in_turn(servers, operator, batch, _insert_and_publish)
    return [
        Figure(
            "ingest rows / messages pulled and acknowledged",
            f"{pulled.ratio:.2f}",
            ">= 0.50",
            {
                "rows_per_second": round(median(pulled.stored)),
                "pulled_per_second": round(median(pulled.compared)),
                "batch": batch,
                "people": PEOPLE,
            },
        ),
        Figure(
            "ingest rows / rows that go straight down, without contacts and deduplication",
            f"{floor.ratio:.2f}",
            ">= 0.60",
            {
                "rows_per_second": round(median(floor.stored)),
                "straight_per_second": round(median(floor.compared)),
            },
        ),
    ]


class _InTurn(NamedTuple):
    """Rates a second of ingest and of the comparison, by round."""

    stored: list[float]
    compared: list[float]

    @property
    def ratio(self) -> float:
        """The median of the ratios of all rounds."""
        return median([rate / base for rate, base in zip(self.stored, self.compared, strict=True)])


Comparison = Callable[[Connection, str, Connection, int], Awaitable[float]]
"""Called with ingest's connection, the database's URL, the operator's connection and the batch
size. Returns messages a second."""


async def _in_turn(
    servers: Servers, operator: Connection, batch: int, comparison: Comparison
) -> _InTurn:
    rates = _InTurn([], [])
    async with servers.fresh_database() as url:
        for _ in range(ROUNDS):
            await publish(operator)
            async with _connected(servers) as bus:
                rates.compared.append(await comparison(bus, url, operator, batch))
            await publish(operator)
            rates.stored.append(await store(servers, url, operator, batch))
    return rates


@asynccontextmanager
async def _connected(servers: Servers) -> AsyncIterator[Connection]:
    # A new connection for each measurement: an open pull request of the last would take messages.
    bus = Connection(User.INGEST, servers.nats_url(User.INGEST))
    await bus.open()
    yield bus
    await bus.close()


async def publish(
    operator: Connection, person: Callable[[int], int] = lambda number: number % PEOPLE
) -> None:
    """Queue the messages of a run with new ids. `person` maps a message's number to its person."""
    now = format_time(datetime.now(UTC))
    for start in range(0, MESSAGES, IN_FLIGHT):
        await asyncio.gather(
            *(
                operator.js.publish(
                    subjects.webhook("posthog"),
                    _body(number, person(number)),
                    headers={
                        MESSAGE_ID: new_id(),
                        RECEIVED_AT: now,
                    },
                )
                for number in range(start, start + IN_FLIGHT)
            )
        )


def _body(number: int, person: int) -> bytes:
    event = {
        "event": "$pageview",
        "distinct_id": f"u_{person}",
        "properties": {"$lib": "web", "plan": "free", "value": 149.9, "number": number},
        "timestamp": "2026-06-01T12:00:00.000Z",
    }
    properties = {"email": f"u{person}@example.com", "plan": "pro", "$geoip_country_code": "GB"}
    return json.dumps({"event": event, "person": {"properties": properties}}).encode()


async def _pull_and_acknowledge(
    bus: Connection, _url: str, _operator: Connection, batch: int
) -> float:
    seen = 0
    started_at = time.perf_counter()
    source = Consumer(bus, StreamName.WEBHOOKS, INGEST_CONSUMER, batch=batch)
    async for messages in source.batches():
        for message in messages:
            await message.ack()
        seen += len(messages)
        if seen >= MESSAGES:
            break
    elapsed = time.perf_counter() - started_at
    await bus.flush()
    return MESSAGES / elapsed


async def _insert_and_publish(bus: Connection, url: str, operator: Connection, batch: int) -> float:
    async with asyncpg.create_pool(url, min_size=ingest_floor.WORKERS) as pool:
        await pool.execute(ingest_floor.TABLE)
        started_at = time.perf_counter()
        consuming = asyncio.create_task(ingest_floor.consume(bus, pool, INGEST_CONSUMER, batch))
        await _wait_until_empty(operator)
        elapsed = time.perf_counter() - started_at
        await cancel_all(consuming)
    return MESSAGES / elapsed


async def _wait_until_empty(operator: Connection) -> None:
    while (await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def store(servers: Servers, url: str, operator: Connection, batch: int) -> float:
    """Let ingest store the queued messages, and return the rows stored a second."""
    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, servers.nats_url(User.INGEST)))
    database = Database(url, "ingest", MIGRATIONS, pool_size=8)
    await database.connect()
    async with started(create_app(broker, database, batch_size=batch)):
        started_at = time.perf_counter()
        await _wait_until_empty(operator)
        elapsed = time.perf_counter() - started_at
    return MESSAGES / elapsed
