"""Duration of deleting old events: dropping their partitions, then deleting their keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from benchmarks.figures import percentile
from benchmarks.filling import DAYS
from benchmarks.ids import new_id
from benchmarks.processes import cpu_seconds
from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.tasks import cancel_all
from services.ingest.event_table.partitions import TablePartitions, list_partitions
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent

KEPT_DAYS = DAYS * 5 // 6
ALONE_SECONDS = 3.0
"""Duration of the measurement of the writer before anything is dropped."""
PAUSE_SECONDS = 0.1
"""Pause before another attempt if writers held a lock on the table. Ingest waits longer."""
EVENTS = 100
"""Events in one transaction of the writer."""

_EVENT_BYTES = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint
FROM pg_partition_tree('events') WHERE isleaf
"""
_KEY_BYTES = "SELECT pg_total_relation_size('event_keys')"


async def measure(database: Database, connection: Any) -> None:
    """Delete about the oldest sixth of the events, and print the duration and CPU time."""
    table = TablePartitions(database, retention_days=KEPT_DAYS)
    sizes = [await _sizes(connection)]
    writer = _Writer(database)
    writing = asyncio.create_task(writer.write())
    await asyncio.sleep(ALONE_SECONDS)
    alone = writer.taken_waits()
    before = await list_partitions(connection)
    dropped = await _spent(lambda: _drop(table))
    meanwhile = writer.taken_waits()
    remaining = {partition.name for partition in await list_partitions(connection)}
    deleted = [partition for partition in before if partition.name not in remaining]
    sizes.append(await _sizes(connection))
    _, keys = EventTable(database, retention_days=KEPT_DAYS).retentions()
    writer.taken_waits()
    swept = await _spent(keys.sweep)
    sweeping = writer.taken_waits()
    await cancel_all(writing)
    vacuumed = await _spent(lambda: connection.execute("VACUUM ANALYZE event_keys"))
    sizes.append(await _sizes(connection))
    print(
        f"{len(deleted)} partitions of about {sum(p.expected_rows for p in deleted):,} events, all "
        f"older than {KEPT_DAYS} days, dropped in {dropped} and {dropped.result} attempts; "
        f"their {swept.result:,} keys deleted in {swept}, and vacuumed in {vacuumed}. "
        f"Longest transaction of a writer of {EVENTS} events: {max(meanwhile):,.0f} ms while "
        f"partitions were dropped, {max(sweeping):,.0f} ms while keys were deleted, "
        f"{max(alone):,.0f} ms before (with a median of {percentile(alone, 0.5):,.1f} ms)."
    )
    for name, size in zip(("before", "after the drop", "at the end"), sizes, strict=True):
        print(f"{name}: events and indexes {size[0]:,.0f} MiB, keys and index {size[1]:,.0f} MiB")


class _Spent(NamedTuple):
    """The result of an operation, with its duration and PostgreSQL's CPU seconds."""

    result: Any
    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.cpu:.2f} s of PostgreSQL's CPU)"


async def _spent(do: Callable[[], Awaitable[object]]) -> _Spent:
    spent, started = cpu_seconds("postgres"), time.perf_counter()
    result = await do()
    seconds = time.perf_counter() - started
    return _Spent(result, seconds, cpu_seconds("postgres") - spent)


class _Writer:
    """Stores events like ingest, one transaction after the other."""

    def __init__(self, database: Database) -> None:
        self._store = EventStore(database, EventTable(database))
        self._waits: list[float] = []
        self._started = time.perf_counter()

    async def write(self) -> None:
        """Store events until cancelled."""
        while True:
            now = datetime.now(UTC)
            events = [
                IncomingEvent(
                    ref=EventRef("posthog", new_id()),
                    name="end_of_life",
                    user_id=f"u_{number}",
                    email=None,
                    occurred_at=now,
                    received_at=now,
                    properties={"$lib": "web"},
                    person_properties={},
                )
                for number in range(EVENTS)
            ]
            self._started = time.perf_counter()
            await self._store.save(events)
            self._waits.append((time.perf_counter() - self._started) * 1000)

    def taken_waits(self) -> list[float]:
        """Milliseconds of each transaction since the last call, including the running one."""
        waits = [*self._waits, (time.perf_counter() - self._started) * 1000]
        self._waits.clear()
        return waits


async def _drop(table: TablePartitions) -> int:
    """Drop old partitions, and return the number of attempts."""
    attempts = 1
    while True:
        try:
            await table.drop_old()
        except Unavailable:
            attempts += 1
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return attempts


async def _sizes(connection: Any) -> tuple[float, float]:
    events = await connection.fetchval(_EVENT_BYTES)
    return events / 2**20, await connection.fetchval(_KEY_BYTES) / 2**20
