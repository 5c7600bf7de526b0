"""How many round trips to PostgreSQL a page takes: each one costs the network's latency."""

from __future__ import annotations

from asyncio import selector_events
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hogsend.contract.directory import ListContacts, ListTimeline
from hogsend.contract.events import ListEvents
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.timeline import TimelineReader
from services.ingest.events.listing import EventList
from tests.event_rows import create_partition

PEOPLE = """
WITH people AS (
    INSERT INTO contacts (id, source, external_id, properties, versions, created_at,
        first_seen_at, last_seen_at)
    SELECT gen_random_uuid(), 'posthog', 'u_' || n, '{}', '{}', now(), now(), now()
    FROM generate_series(1, 60) AS n
    RETURNING id, external_id
), keys AS (
    INSERT INTO contact_keys (kind, digest, value, contact_id)
    SELECT 'external', sha256(external_id::bytea), external_id, id FROM people
)
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', external_id, 'e', external_id, id, '{}', now(), now() FROM people
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    async with database.acquire() as connection:
        await create_partition(connection)
        await connection.execute(PEOPLE)
    yield database
    await database.close()


async def count_writes(
    patched: pytest.MonkeyPatch, read_page: Callable[[], Awaitable[object]]
) -> int:
    """Count the writes to the server; the reply to each is waited for."""
    # The first call prepares statements, which the connection caches.
    await read_page()
    sent = 0
    transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    def counting_write(self: Any, data: Any) -> None:
        nonlocal sent
        sent += 1
        write(self, data)

    with patched.context() as within:
        within.setattr(transport, "write", counting_write)
        await read_page()
    return sent


async def test_a_page_takes_few_round_trips_to_postgresql(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, directory = EventList(database), ContactDirectory(database)
    timelines = TimelineReader(database)
    # Starting, limiting and ending the transaction take three round trips. A query for rows takes
    # one, and reading them three; a total takes two.
    pages_by_trips: dict[int, list[Callable[[], Awaitable[object]]]] = {
        3 + 2: [
            lambda: events.page(ListEvents(event="nothing has this name")),
            lambda: directory.page(ListContacts(search="nobody")),
        ],
        3 + 4: [lambda: directory.page(ListContacts(search="u_"))],
        3 + 4 + 2: [
            lambda: events.page(ListEvents()),
            lambda: directory.page(ListContacts()),
            lambda: directory.page(ListContacts(order="created")),
            lambda: timelines.page(ListTimeline(key="u_1")),
        ],
    }
    for trips, pages in pages_by_trips.items():
        for page in pages:
            assert 0 < await count_writes(monkeypatch, page) <= trips
