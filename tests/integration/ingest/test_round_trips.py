"""How often a page asks PostgreSQL: each time it waits for its turn, here and there."""

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


async def sent_by(patched: pytest.MonkeyPatch, ask: Callable[[], Awaitable[object]]) -> int:
    """How often something is sent to the server; each time, its answer is waited for."""
    # What it prepares the first time is kept.
    await ask()
    sent = 0
    transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    def counted(self: Any, data: Any) -> None:
        nonlocal sent
        sent += 1
        write(self, data)

    with patched.context() as within:
        within.setattr(transport, "write", counted)
        await ask()
    return sent


async def test_a_page_takes_few_round_trips(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, directory = EventList(database), ContactDirectory(database)
    # Each begins and ends a transaction and limits its time. Rows take one to ask for, and three to
    # be read; a total takes two.
    most: dict[int, list[Callable[[], Awaitable[object]]]] = {
        3 + 2: [
            lambda: events.page(ListEvents(event="nothing has this name")),
            lambda: directory.page(ListContacts(search="nobody")),
        ],
        3 + 4: [lambda: directory.page(ListContacts(search="u_"))],
        3 + 4 + 2: [
            lambda: events.page(ListEvents()),
            lambda: directory.page(ListContacts()),
            lambda: directory.page(ListContacts(order="created")),
            lambda: directory.timeline(ListTimeline(key="u_1")),
        ],
    }
    for trips, pages in most.items():
        for page in pages:
            assert 0 < await sent_by(monkeypatch, page) <= trips
