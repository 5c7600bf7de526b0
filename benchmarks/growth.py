"""How storing and reading hold up as the tables grow: `python -m benchmarks.growth [EVENTS ...]`.

Fills a database of its own up to each number of events, with a million contacts (or `--contacts`),
and prints a table: rows stored a second, the 99th percentile of pages and look-ups, and how long it
takes to count and to delete everything of one person, in milliseconds, each with its ratio to the
first line, and after the comma the CPU milliseconds that PostgreSQL spent on one. The latter barely
depend on what else the machine does. Rows are stored in turn with a database that has 4,000
contacts and no event, and the ratio is to that one: once by the same 4,000 people, once by anybody.
Then the partitions older than five sixths of the time are dropped while events are stored,
and the keys of their events deleted.

With `--fill URL` it fills the database of a stack that `hogsend up` runs, for
`python -m benchmarks.views` and for what else is to be seen there, and measures nothing.
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
LOOKS = 300
"""Pages and look-ups of each kind."""
STORED = 3
"""Rounds of storing 20,000 rows, of each kind."""
PEOPLE = 3
"""People whose events are counted, and then deleted."""


class _Measured(NamedTuple):
    """What one thing took, in milliseconds, or what was reached a second."""

    value: float
    postgres_ms: float
    """CPU time that PostgreSQL spent on one, which barely depends on what else the machine does."""


class _Against(NamedTuple):
    """The same, with ratios to what it was compared with in turn."""

    value: float
    postgres_ms: float
    ratio: float
    cpu_ratio: float


async def _measured(count: int, share: float, look: Callable[[], Awaitable[object]]) -> _Measured:
    """Do something `count` times, and give a percentile."""
    taken = []
    spent = cpu_seconds("postgres")
    for _ in range(count):
        begun = time.perf_counter()
        # One that is given up for taking too long took that long; a busy machine ends no run.
        with contextlib.suppress(Unavailable):
            await look()
        taken.append((time.perf_counter() - begun) * 1000)
    spent = cpu_seconds("postgres") - spent
    return _Measured(percentile(taken, share), spent / count * 1000)


async def _p99(look: Callable[[], Awaitable[object]]) -> _Measured:
    return await _measured(LOOKS, 0.99, look)


async def _read(database: Database, contacts: int) -> dict[str, _Measured]:
    events, people = EventList(database), ContactStore(database)
    draw = random.Random(1)  # noqa: S311 - the same people each time, not a secret
    now = datetime.now(UTC)

    def person() -> str:
        return f"u_{draw.randrange(contacts)}"

    async def anywhere() -> None:
        to = now - timedelta(days=draw.random() * DAYS)
        page = await events.page(ListEvents(occurred_to=to))
        await events.page(ListEvents(before=page.next_before))

    return {
        "first page": await _p99(lambda: events.page(ListEvents())),
        "two pages from anywhere": await _p99(anywhere),
        "page of a frequent event": await _p99(lambda: events.page(ListEvents(event="e7"))),
        "page of a rare event": await _p99(lambda: events.page(ListEvents(event="rare"))),
        "page of a person": await _p99(lambda: events.page(ListEvents(user_id=person()))),
        "contact": await _p99(lambda: people.find(person())),
    }


async def _whole_people(
    database: Database, operator: Connection, contacts: int
) -> dict[str, _Measured]:
    """Count all events of a person, as before an erasure, and delete them."""
    jobs, exporter = ErasureJobs(database), Exporter(database, operator)
    draw = random.Random(2)  # noqa: S311 - the same people each time, not a secret
    people = [
        UUID(f"00000000-0000-4000-8000-{draw.randrange(contacts):012x}") for _ in range(PEOPLE)
    ]
    counted, deleted = iter(people), iter(people)

    async def count() -> None:
        wanted = ExportContact(contact_id=next(counted), part="events", only_count=True)
        while (page := await exporter.page(wanted)).next is not None:
            wanted = msgspec.structs.replace(wanted, after=page.next)

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


class _Stored:
    """Rates of storing, and of storing the same in a database without events beside it."""

    def __init__(self, servers: Servers, operator: Connection, full: str, empty: str) -> None:
        self._servers = servers
        self._operator = operator
        self._full = full
        self._empty = empty
        self._batch = IngestSettings().ingest_batch_size

    async def warm(self) -> None:
        """Let either database know the few people, as it does from then on."""
        for url in (self._empty, self._full):
            await self._one(url, _few)

    async def measured(self, size: int, contacts: int) -> dict[str, _Against]:
        """Store rows of few people and of anybody, in turn with the empty database."""
        draw = random.Random(size)  # noqa: S311 - not a secret

        def anybody(_: int) -> int:
            return draw.randrange(contacts)

        empty, few, any_ = [], [], []
        for _ in range(STORED):
            empty.append(await self._one(self._empty, _few))
            few.append(await self._one(self._full, _few))
            any_.append(await self._one(self._full, anybody))
        return {
            "rows stored a second": _against(few, empty),
            "of anybody": _against(any_, empty),
        }

    async def _one(self, url: str, person: Callable[[int], int]) -> _Measured:
        await ingest.publish(self._operator, person)
        before = cpu_seconds("postgres")
        rate = await ingest.store(self._servers, url, self._operator, self._batch)
        return _Measured(rate, (cpu_seconds("postgres") - before) / ingest.MESSAGES * 1000)


def _few(number: int) -> int:
    return number % ingest.PEOPLE


def _against(rounds: Sequence[_Measured], empty: Sequence[_Measured]) -> _Against:
    pairs = list(zip(rounds, empty, strict=True))
    return _Against(
        median([one.value for one in rounds]),
        median([one.postgres_ms for one in rounds]),
        median([one.value / base.value for one, base in pairs]),
        median([one.postgres_ms / base.postgres_ms for one, base in pairs]),
    )


async def measure(sizes: Sequence[int], contacts: int) -> None:
    """Fill, measure and print."""
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
        emptied = Database(empty_url, "ingest", MIGRATIONS, pool_size=1)
        await emptied.connect()
        await fill_stack(empty_url, 0, ingest.PEOPLE)
        filling = await asyncpg.connect(url, server_settings={"search_path": "ingest"})
        await fill(database, filling, 0, contacts)
        storing = _Stored(servers, operator, url, empty_url)
        await storing.warm()
        base: dict[str, _Measured] = {}
        filled = 0
        for size in sizes:
            await grow(filling, filled, size, contacts, max(sizes))
            filled = size
            found = await _read(database, contacts)
            found |= await _whole_people(database, operator, contacts)
            async with emptied.acquire() as connection:
                await connection.execute("TRUNCATE events, event_keys")
            stored = await storing.measured(size, contacts)
            if not base:
                base = found
                names = [*found, *stored]
                print(f"| events | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
            cells = [
                f"{one.value:.3g} ({one.value / base[name].value:.2f}), {one.postgres_ms:.3g}"
                for name, one in found.items()
            ]
            cells += [
                f"{one.value:.3g} ({one.ratio:.2f}), {one.postgres_ms:.3g} ({one.cpu_ratio:.2f})"
                for one in stored.values()
            ]
            print(f"| {size:,} | {' | '.join(cells)} |", flush=True)
        print(
            f"\nReads in ms (p99 of {LOOKS}; of a person's events the median of {PEOPLE}), "
            f"{contacts:,} contacts. Stored rows against an empty database in turn."
        )
        await end_of_life.measure(database, filling)
        await filling.close()
        await database.close()
        await emptied.close()
        await operator.close()


def main() -> int:
    """Read the sizes, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--contacts", type=int, default=CONTACTS)
    parser.add_argument("--fill", metavar="URL", help="of the database to fill, and nothing else")
    given = parser.parse_args()
    if given.fill:
        run_to_end(fill_stack(given.fill, max(given.events), given.contacts))
    else:
        run_to_end(measure(sorted(given.events), given.contacts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
