"""Rows stored a second, over what the same messages take without ingest.

Once they are only pulled and acknowledged, and once they go straight down: see `ingest_floor`.
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
    """Alternate ingest with each of the two, on the same messages under new ids."""
    await streams.reconcile(operator.js, User.INGEST)
    await operator.js.purge_stream(StreamName.WEBHOOKS)
    batch = IngestSettings().ingest_batch_size
    pulled = await _in_turn(servers, operator, batch, _pull_and_acknowledge)
    straight = await _in_turn(servers, operator, batch, _straight_down)
    return [
        Figure(
            "ingest rows / messages pulled and acknowledged",
            f"{pulled.ratio:.2f}",
            ">= 0.50",
            {
                "rows_per_second": round(median(pulled.stored)),
                "pulled_per_second": round(median(pulled.others)),
                "batch": batch,
                "people": PEOPLE,
            },
        ),
        Figure(
            "ingest rows / rows that go straight down, without contacts and deduplication",
            f"{straight.ratio:.2f}",
            ">= 0.60",
            {
                "rows_per_second": round(median(straight.stored)),
                "straight_per_second": round(median(straight.others)),
            },
        ),
    ]


class _InTurn(NamedTuple):
    """Rows and what they are compared with, a second, round by round."""

    stored: list[float]
    others: list[float]

    @property
    def ratio(self) -> float:
        """The median of the rounds' own."""
        return median([one / base for one, base in zip(self.stored, self.others, strict=True)])


Other = Callable[[Connection, str, Connection, int], Awaitable[float]]
"""Takes ingest's connection, the database's address, the operator's connection and the batch."""


async def _in_turn(servers: Servers, operator: Connection, batch: int, other: Other) -> _InTurn:
    found = _InTurn([], [])
    async with servers.fresh_database() as url:
        for _ in range(ROUNDS):
            await publish(operator)
            async with _connected(servers) as bus:
                found.others.append(await other(bus, url, operator, batch))
            await publish(operator)
            found.stored.append(await store(servers, url, operator, batch))
    return found


@asynccontextmanager
async def _connected(servers: Servers) -> AsyncIterator[Connection]:
    # A connection for each measurement: an idle pull of the one before would take messages.
    bus = Connection(User.INGEST, servers.nats_url(User.INGEST))
    await bus.open()
    yield bus
    await bus.close()


async def publish(
    operator: Connection, person: Callable[[int], int] = lambda number: number % PEOPLE
) -> None:
    """Queue the messages of a run, under new ids like PostHog's; `person` says whose each is."""
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
    begun = time.perf_counter()
    source = Consumer(bus, StreamName.WEBHOOKS, INGEST_CONSUMER, batch=batch)
    async for messages in source.batches():
        for message in messages:
            await message.ack()
        seen += len(messages)
        if seen >= MESSAGES:
            break
    elapsed = time.perf_counter() - begun
    await bus.flush()
    return MESSAGES / elapsed


async def _straight_down(bus: Connection, url: str, operator: Connection, batch: int) -> float:
    async with asyncpg.create_pool(url, min_size=ingest_floor.WORKERS) as pool:
        await pool.execute(ingest_floor.TABLE)
        begun = time.perf_counter()
        consuming = asyncio.create_task(ingest_floor.consume(bus, pool, INGEST_CONSUMER, batch))
        await _drained(operator)
        elapsed = time.perf_counter() - begun
        await cancel_all(consuming)
    return MESSAGES / elapsed


async def _drained(operator: Connection) -> None:
    while (await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def store(servers: Servers, url: str, operator: Connection, batch: int) -> float:
    """Store what is queued, and return the rows stored a second."""
    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, servers.nats_url(User.INGEST)))
    database = Database(url, "ingest", MIGRATIONS, pool_size=8)
    await database.connect()
    async with started(create_app(broker, database, batch_size=batch)):
        begun = time.perf_counter()
        await _drained(operator)
        elapsed = time.perf_counter() - begun
    return MESSAGES / elapsed
