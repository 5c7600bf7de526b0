"""Speed of storing and reading as the tables grow: `python -m benchmarks.growth [EVENTS ...]`.

Fills a new database up to each number of events, with a million contacts (or `--contacts`), and
prints a table with a row for each number: rows stored a second, the 99th percentile of pages and
lookups, and the duration of counting and deleting all events of one person, in milliseconds. Each
value has its ratio to the first row, and after the comma PostgreSQL's CPU milliseconds for one
operation, which barely depend on the other load of the machine. Storing is measured in turn with a
database that has 4,000 contacts and no events, to which its ratio refers: once for the same 4,000
people, once for random ones. At the end, partitions older than five sixths of the time are dropped
while events are stored, and the keys of their events are deleted.

`--fill URL` only fills the database of a stack that `hogsend up` runs, for example for
`python -m benchmarks.views`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg
import msgspec

from benchmarks import end_of_life, ingest
from benchmarks.ending import run_to_end
from benchmarks.figures import median, percentile
from benchmarks.filling import DAYS, fill, fill_stack, grow
from benchmarks.processes import cpu_seconds
from hogsend.contract.errors import Unavailable
from hogsend.contract.events import ListEvents
from hogsend.contract.exports import ExportContact
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest.app import MIGRATIONS
from services.ingest.contacts.lookup import ContactStore
from services.ingest.erasure.jobs import ErasureJobs, Job
from services.ingest.erasure.person import Person
from services.ingest.events.listing import EventList
from services.ingest.export.exporter import Exporter
from services.ingest.settings import IngestSettings
from tests.servers import Servers, running_servers

SIZES = (0, 1_000_000, 3_000_000, 10_000_000)
CONTACTS = 1_000_000
READS = 300
"""Number of pages and lookups of each kind."""
STORE_ROUNDS = 3
"""Rounds of storing 20,000 rows, of each kind."""
PEOPLE = 3
"""Number of people whose events are counted, and then deleted."""


class _Measured(NamedTuple):
    """Duration of one operation in milliseconds, or operations a second."""

    value: float
    postgres_ms: float
    """PostgreSQL's CPU time for one, which barely depends on the other load of the machine."""


class _Compared(NamedTuple):
    """A measurement with its ratios to the empty database, which was measured in turn."""

    value: float
    postgres_ms: float
    ratio: float
    cpu_ratio: float


async def _measured(count: int, share: float, read: Callable[[], Awaitable[object]]) -> _Measured:
    """Run an operation `count` times, and return the percentile `share` of its duration."""
    durations = []
    spent = cpu_seconds("postgres")
    for _ in range(count):
        started = time.perf_counter()
        # A timeout counts with its duration, so that a busy machine does not abort the run.
        with contextlib.suppress(Unavailable):
            await read()
        durations.append((time.perf_counter() - started) * 1000)
    spent = cpu_seconds("postgres") - spent
    return _Measured(percentile(durations, share), spent / count * 1000)


async def _p99(read: Callable[[], Awaitable[object]]) -> _Measured:
    return await _measured(READS, 0.99, read)


async def _read(database: Database, contacts: int) -> dict[str, _Measured]:
    events, people = EventList(database), ContactStore(database)
    draw = random.Random(1)  # noqa: S311 - the same people each time, not a secret
    now = datetime.now(UTC)

    def person() -> str:
        return f"u_{draw.randrange(contacts)}"

    async def random_pages() -> None:
        to = now - timedelta(days=draw.random() * DAYS)
        page = await events.page(ListEvents(occurred_to=to))
        await events.page(ListEvents(before=page.next_before))

    return {
        "first page": await _p99(lambda: events.page(ListEvents())),
        "two pages from anywhere": await _p99(random_pages),
        "page of a frequent event": await _p99(lambda: events.page(ListEvents(event="e7"))),
        "page of a rare event": await _p99(lambda: events.page(ListEvents(event="rare"))),
        "page of a person": await _p99(lambda: events.page(ListEvents(user_id=person()))),
        "contact": await _p99(lambda: people.find(person())),
    }


async def _whole_people(
    database: Database, operator: Connection, contacts: int
) -> dict[str, _Measured]:
    """Count all events of a person, like the preview of an erasure, and delete them."""
    jobs, exporter = ErasureJobs(database), Exporter(database, operator)
    draw = random.Random(2)  # noqa: S311 - the same people each time, not a secret
    people = [
        UUID(f"00000000-0000-4000-8000-{draw.randrange(contacts):012x}") for _ in range(PEOPLE)
    ]
    counted, deleted = iter(people), iter(people)

    async def count() -> None:
        request = ExportContact(contact_id=next(counted), part="events", only_count=True)
        while (page := await exporter.page(request)).next is not None:
            request = msgspec.structs.replace(request, after=page.next)

    return {
        "count of a person's events": await _measured(PEOPLE, 0.5, count),
        "deletion of a person's events": await _measured(
            PEOPLE, 0.5, lambda: jobs.delete_events(_erasure_of(next(deleted)))
        ),
    }


def _erasure_of(contact: UUID) -> Job:
    return Job(
        id=uuid4(),
        contact_id=contact,
        contact_ids=[contact],
        person=Person(frozenset(), frozenset()),
        requested_at=datetime.now(UTC),
        is_swept=False,
    )


class _StoreRates:
    """Measures the rate of storing, in turn with a database without events."""

    def __init__(self, servers: Servers, operator: Connection, full: str, empty: str) -> None:
        self._servers = servers
        self._operator = operator
        self._full = full
        self._empty = empty
        self._batch = IngestSettings().ingest_batch_size

    async def warm(self) -> None:
        """Create the contacts of the few people in both databases."""
        for url in (self._empty, self._full):
            await self._store(url, _few)

    async def measured(self, size: int, contacts: int) -> dict[str, _Compared]:
        """Store rows of few people and of random people, in turn with the empty database."""
        draw = random.Random(size)  # noqa: S311 - not a secret

        def random_person(_: int) -> int:
            return draw.randrange(contacts)

        empty, few, of_random = [], [], []
        for _ in range(STORE_ROUNDS):
            empty.append(await self._store(self._empty, _few))
            few.append(await self._store(self._full, _few))
            of_random.append(await self._store(self._full, random_person))
        return {
            "rows stored a second": _compared(few, empty),
            "of anybody": _compared(of_random, empty),
        }

    async def _store(self, url: str, person: Callable[[int], int]) -> _Measured:
        await ingest.publish(self._operator, person)
        before = cpu_seconds("postgres")
        rate = await ingest.store(self._servers, url, self._operator, self._batch)
        return _Measured(rate, (cpu_seconds("postgres") - before) / ingest.MESSAGES * 1000)


def _few(number: int) -> int:
    return number % ingest.PEOPLE


def _compared(rounds: Sequence[_Measured], empty: Sequence[_Measured]) -> _Compared:
    pairs = list(zip(rounds, empty, strict=True))
    return _Compared(
        median([measured.value for measured in rounds]),
        median([measured.postgres_ms for measured in rounds]),
        median([measured.value / base.value for measured, base in pairs]),
        median([measured.postgres_ms / base.postgres_ms for measured, base in pairs]),
    )


async def measure(sizes: Sequence[int], contacts: int) -> None:
    """Fill the database up to each size, measure, and print the table."""
    async with (
        running_servers() as servers,
        servers.fresh_database() as url,
        servers.fresh_database() as empty_url,
    ):
        operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await operator.open()
        await streams.reconcile(operator.js, User.INGEST)
        await operator.js.purge_stream(StreamName.WEBHOOKS)
        database = Database(url, "ingest", MIGRATIONS, pool_size=8)
        await database.connect()
        empty_database = Database(empty_url, "ingest", MIGRATIONS, pool_size=1)
        await empty_database.connect()
        await fill_stack(empty_url, 0, ingest.PEOPLE)
        filling = await asyncpg.connect(url, server_settings={"search_path": "ingest"})
        await fill(database, filling, 0, contacts)
        storing = _StoreRates(servers, operator, url, empty_url)
        await storing.warm()
        base: dict[str, _Measured] = {}
        filled = 0
        for size in sizes:
            await grow(filling, filled, size, contacts, max(sizes))
            filled = size
            reads = await _read(database, contacts)
            reads |= await _whole_people(database, operator, contacts)
            async with empty_database.acquire() as connection:
                await connection.execute("TRUNCATE events, event_keys")
            stored = await storing.measured(size, contacts)
            if not base:
                base = reads
                names = [*reads, *stored]
                print(f"| events | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
            cells = [
                f"{read.value:.3g} ({read.value / base[name].value:.2f}), {read.postgres_ms:.3g}"
                for name, read in reads.items()
            ]
            cells += [
                f"{row.value:.3g} ({row.ratio:.2f}), {row.postgres_ms:.3g} ({row.cpu_ratio:.2f})"
                for row in stored.values()
            ]
            print(f"| {size:,} | {' | '.join(cells)} |", flush=True)
        print(
            f"\nReads in ms (p99 of {READS}; of a person's events the median of {PEOPLE}), "
            f"{contacts:,} contacts. Storing is compared with an empty database."
        )
        await end_of_life.measure(database, filling)
        await filling.close()
        await database.close()
        await empty_database.close()
        await operator.close()


def main() -> int:
    """Parse the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    parser.add_argument("--fill", metavar="URL", help="only fill the database at this URL")
    arguments = parser.parse_args()
    if arguments.fill:
        run_to_end(fill_stack(arguments.fill, max(arguments.events), arguments.contacts))
    else:
        run_to_end(measure(sorted(arguments.events), arguments.contacts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
