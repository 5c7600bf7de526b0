"""Lists of events, contacts and audit entries: paged by cursor, counted up to a limit, by index."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec
import pytest

from hogsend.contract.audit import AuditPage, ListAudit
from hogsend.contract.directory import ListContacts, ListTimeline
from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.events import EventPage, ListEvents
from hogsend.contract.exports import ExportContact
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest import audit as audit_module
from services.ingest.app import MIGRATIONS
from services.ingest.audit import AuditTrail
from services.ingest.contacts import directory as directory_module
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.timeline import TimelineReader
from services.ingest.events import listing as listing_module
from services.ingest.events.listing import EventList
from services.ingest.export.exporter import Exporter
from services.ingest.replay.announced import AnnouncedEvents
from tests.event_rows import create_partition
from tests.query_plans import nodes
from tests.statements import record_rows, record_statements

SAME = datetime(2026, 1, 1, tzinfo=UTC)
LAST = datetime(2026, 1, 5, tzinfo=UTC)
FAR = datetime(2027, 1, 1, tzinfo=UTC)
EVENTS = """
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', n / 2, CASE WHEN n % 500 = 0 THEN 'rare' ELSE 'e' || n % 2 END, 'u' || n % 10,
    '00000000-0000-0000-0000-000000000000', '{}',
    '2026-01-01Z'::timestamptz + n / 8 * interval '1 second',
    '2026-01-01Z'::timestamptz + n / 4 * interval '1 second'
FROM generate_series(1, $1::int) AS n
"""
ENTRIES = """
INSERT INTO audit (id, at, actor, action, resource, status, request_id, address)
SELECT gen_random_uuid(), '2026-01-01Z'::timestamptz + n / 4 * interval '1 second',
    CASE WHEN n % 500 = 0 THEN 'read' ELSE 'full-admin' END,
    CASE WHEN n % 500 = 0 THEN 'a.put' ELSE 'b.put' END, 'r', 200, 'r', ''
FROM generate_series(1, $1::int) AS n
"""
CONTACT = "00000000-0000-0000-0000-000000000001"
LONG_EVENTS = """
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', n::text, 'big', 'u1', '00000000-0000-0000-0000-000000000001',
    jsonb_build_object('a', (SELECT jsonb_agg(1e308) FROM generate_series(1, 3000))),
    '2026-06-01Z'::timestamptz + n * interval '1 s', '2026-06-01Z'
FROM generate_series(1, 40) AS n
"""
LONG_CONTACTS = """
INSERT INTO contacts (id, source, properties, versions, created_at, first_seen_at, last_seen_at)
SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'posthog',
    jsonb_build_object('a', (SELECT jsonb_agg(1e308) FROM generate_series(1, 3000))), '{}', t, t, t
FROM generate_series(1, 40) AS n, LATERAL (SELECT now() + n * interval '1 s' AS t) AS at
"""
ONE_FILTER = {"before": False, "limit": 51, "most": 51, "skip": 0, "offset": 0}
"""Parameters of a page that is read by one filter, without a search."""
Page = TypeVar("Page", EventPage, AuditPage)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    async with database.acquire() as connection:
        await create_partition(connection)
    yield database
    await database.close()


@pytest.fixture
def events(database: Database) -> EventList:
    return EventList(database)


@pytest.fixture
def trail(database: Database) -> AuditTrail:
    unused: Any = None
    return AuditTrail(database, unused)


async def fill(database: Database, rows: int) -> None:
    async with database.acquire() as connection:
        for statement in (EVENTS, ENTRIES):
            await connection.execute(statement, rows)
        await connection.execute("ANALYZE events, audit")


async def fill_with(database: Database, event: str, rows: int) -> None:
    """Store events of one name that all happened at the same time."""
    async with database.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at,
                received_at)
            SELECT 'posthog', $1 || n, $1, 'same', '00000000-0000-0000-0000-000000000000', '{}',
                '2026-06-01Z', '2026-06-01Z'::timestamptz + n * interval '1 millisecond'
            FROM generate_series(1, $2::int) AS n
            """,
            event,
            rows,
        )
        await connection.execute("ANALYZE events")


async def all_pages(read: Callable[[str | None], Awaitable[Page]]) -> list[Page]:
    pages = [await read(None)]
    while (before := pages[-1].next_before) is not None:
        pages.append(await read(before))
    return pages


@pytest.mark.parametrize(
    "query",
    [
        ListEvents(limit=100),
        ListEvents(limit=100, user_id="u3"),
        ListEvents(limit=100, user_id="u3", event="e1"),
    ],
)
@pytest.mark.parametrize("most", [1, 5])
async def test_a_page_lists_as_many_events_as_fit_and_at_least_one(
    database: Database, events: EventList, query: ListEvents, most: int
) -> None:
    await fill(database, 90)
    whole = (await events.page(query)).events
    max_bytes = most * len(msgspec.json.encode(whole[0])) if most > 1 else 1
    pages = await all_pages(
        lambda before: events.page(
            msgspec.structs.replace(query, before=before), max_bytes=max_bytes
        )
    )
    assert [event for page in pages for event in page.events] == whole
    assert len(pages) >= len(whole) / most
    # Commas take space too, and the events are of different lengths.
    assert {len(page.events) for page in pages[:-1]} <= {max(most - 1, 1), most}
    assert {page.searched_to for page in pages} == {None}


@pytest.mark.parametrize("order", ["created", "lastSeen"])
async def test_a_page_lists_as_many_contacts_as_fit_and_at_least_one(
    database: Database, order: Literal["created", "lastSeen"]
) -> None:
    async with database.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO contacts (id, source, properties, versions, created_at, first_seen_at,
                last_seen_at)
            SELECT gen_random_uuid(), 'posthog', jsonb_build_object('text', repeat('x', 1000)),
                '{}', t, t, t
            FROM generate_series(1, 20) AS n, LATERAL (SELECT now() + n * interval '1 s' AS t) AS at
            """
        )
    directory = ContactDirectory(database)
    whole = (await directory.page(ListContacts(order=order))).contacts
    page = await directory.page(ListContacts(order=order), max_bytes=5000)
    shown = len(page.contacts)
    assert 1 < shown < 5
    query = ListContacts(order=order, offset=shown)
    if order == "created":
        query = ListContacts(order=order, before=str(page.next_before))
    following = await directory.page(query, max_bytes=1)
    assert page.contacts + following.contacts == whole[: shown + 1]


async def test_a_page_of_rows_with_long_numbers_reads_few_more_rows_than_it_shows(
    database: Database, events: EventList, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL writes `1e308` as 309 digits: a full page of such events has many megabytes."""
    async with database.acquire() as connection:
        await connection.execute(LONG_EVENTS)
        await connection.execute(LONG_CONTACTS)
    directory, timelines = ContactDirectory(database), TimelineReader(database)
    # Only `max_payload` is read, which has a default while the connection is not open.
    link = Connection("gateway", "nats://127.0.0.1:1")
    max_bytes = 1_000_000
    lists: dict[str, Callable[[], Awaitable[Any]]] = {
        "events": lambda: events.page(ListEvents(), max_bytes=max_bytes),
        "searched events": lambda: events.page(
            ListEvents(event="big", user_id="u1"), max_bytes=max_bytes
        ),
        "timeline": lambda: timelines.page(ListTimeline(key=CONTACT), max_bytes=max_bytes),
        "contacts": lambda: directory.page(ListContacts(), max_bytes=max_bytes),
        "newest contacts": lambda: directory.page(
            ListContacts(order="created"), max_bytes=max_bytes
        ),
        "searched contacts": lambda: directory.page(
            ListContacts(search="0000"), max_bytes=max_bytes
        ),
        "export": lambda: Exporter(database, link).page(
            ExportContact(contact_id=UUID(CONTACT), part="events")
        ),
        "replay": lambda: AnnouncedEvents(link, database).read_database(
            SAME, FAR, received_before=None, after=None
        ),
    }
    for name, read_list in lists.items():
        with monkeypatch.context() as patched:
            rows = record_rows(patched)
            await read_list()
        assert 0 < len(rows) <= 8, name


async def test_pages_by_cursor_list_every_event_once_while_more_events_arrive(
    database: Database, events: EventList
) -> None:
    await fill(database, 205)
    in_order = [
        event
        for offset in range(0, 205, 100)
        for event in (await events.page(ListEvents(limit=100, offset=offset))).events
    ]
    first = await events.page(ListEvents(limit=20))
    async with database.acquire() as connection:
        # An offset would show some events again from now on.
        await connection.execute(EVENTS.replace("'posthog'", "'later'").replace("2026", "2027"), 50)
    following = await all_pages(
        lambda before: events.page(ListEvents(limit=20, before=before or first.next_before))
    )
    assert [event for page in (first, *following) for event in page.events] == in_order
    assert len(in_order) == len(set(map(str, in_order))) == 205
    assert [page.next_before is None for page in following] == [False] * 9 + [True]


async def test_pages_by_cursor_list_only_events_that_match_the_filters(
    database: Database, events: EventList
) -> None:
    await fill(database, 200)
    pages = await all_pages(
        lambda before: events.page(ListEvents(event="e1", user_id="u3", limit=7, before=before))
    )
    matches = [event for page in pages for event in page.events]
    assert len(matches) == pages[0].total == pages[-1].total == 20
    assert {(event.event, event.user_id) for event in matches} == {("e1", "u3")}


async def test_pages_of_the_audit_trail_list_every_entry_once(
    database: Database, trail: AuditTrail
) -> None:
    await fill(database, 205)
    pages = await all_pages(lambda before: trail.page(ListAudit(limit=20, before=before)))
    entries = [entry for page in pages for entry in page.entries]
    assert len({entry.id for entry in entries}) == len(entries) == pages[0].total == 205
    assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)


async def test_a_total_is_exact_up_to_a_limit_and_reported_as_estimated_above(
    database: Database,
    events: EventList,
    trail: AuditTrail,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(database, 10_000)
    for page in (await events.page(ListEvents()), await trail.page(ListAudit())):
        assert (page.total, page.total_estimated) == (10_000, False)
    async with database.acquire() as connection:
        await connection.execute("TRUNCATE events, audit")
    await fill(database, 30_000)
    for page in (await events.page(ListEvents()), await trail.page(ListAudit())):
        assert page.total_estimated
        assert page.total == pytest.approx(30_000, rel=0.1)
    half = await events.page(ListEvents(event="e1", source="posthog"))
    assert half.total_estimated
    assert half.total == pytest.approx(15_000, rel=0.1)
    await fill_with(database, "counted", 1_000)
    counted = await events.page(ListEvents(event="counted"))
    assert (counted.total, counted.total_estimated) == (1_000, False)
    await fill_with(database, "many", 1_001)
    assert (await events.page(ListEvents(event="many"))).total_estimated
    most = await trail.page(ListAudit(action="b.put"))
    assert most.total == pytest.approx(30_000, rel=0.1)
    assert (await events.page(ListEvents(event="rare"))).total == 60
    assert not (await events.page(ListEvents(event="rare"))).total_estimated
    several = ListEvents(event="rare", source="posthog")
    assert not (await events.page(several)).total_estimated
    # Of the matches of one filter, at most `MAX_CHECKED` are checked against the other filters.
    monkeypatch.setattr(listing_module, "MAX_CHECKED", 50)
    assert (await events.page(several)).total_estimated
    assert not (await trail.page(ListAudit(actor="read"))).total_estimated


@pytest.mark.parametrize("rows", [280, 320])
async def test_rows_are_not_counted_when_postgresql_expects_far_more_than_the_limit(
    database: Database,
    events: EventList,
    trail: AuditTrail,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    await fill(database, rows)
    async with database.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO contacts (id, source, properties, versions, created_at, first_seen_at,
                last_seen_at)
            SELECT gen_random_uuid(), 'posthog', '{}', '{}', now(), now(), now()
            FROM generate_series(1, $1::int)
            """,
            rows,
        )
        await connection.execute("ANALYZE contacts")
    for module in (listing_module, audit_module, directory_module):
        monkeypatch.setattr(module, "EXACT_TOTAL", 100)
    directory = ContactDirectory(database)
    statements = record_statements(monkeypatch)
    for page in (
        await events.page(ListEvents()),
        await trail.page(ListAudit()),
        await directory.page(ListContacts()),
    ):
        assert page.total_estimated
        assert page.total == pytest.approx(rows, rel=0.1)
    counts = [query for query, _ in statements if "SELECT count(*)" in query]
    assert len(counts) == (3 if rows < 300 else 0)
    # With a filter the estimate may be far off, so rows are counted.
    assert (await events.page(ListEvents(event="e1"))).total == rows // 2


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("searched", [1, 7, 64, 5_000])
async def test_events_that_match_several_filters_are_searched_in_parts(
    database: Database,
    events: EventList,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    searched: int,
) -> None:
    await fill(database, 1_000)
    async with database.acquire() as connection:
        # Three of the 100 events of this user; each user has 100 events.
        await connection.execute(
            "UPDATE events SET event = 'met' WHERE user_id = 'u3' AND id IN ('1', '241', '251')"
        )
        await connection.execute("ANALYZE events")
    monkeypatch.setattr(listing_module, "MAX_SEARCHED", searched)
    filters = ListEvents(user_id="u3", source="posthog", event="met", limit=limit)
    # Without the estimate for the rare name, the search reads the events of the user.
    monkeypatch.setattr(listing_module, "_FILTERS", ("user_id", "event"))
    monkeypatch.setattr(listing_module, "estimated_rows", lambda *_, **__: 100)
    pages = await all_pages(
        lambda before: events.page(msgspec.structs.replace(filters, before=before))
    )
    ids = [event.id for page in pages for event in page.events]
    assert ids == ["251", "241", "1"]
    assert [page.searched_to is not None for page in pages] == [
        len(page.events) < limit and page.next_before is not None for page in pages
    ]
    if searched < 100:
        assert len(pages) > 100 / searched
        times = [page.searched_to for page in pages if page.searched_to is not None]
        assert times == sorted(times, reverse=True)
    else:
        last = await events.page(msgspec.structs.replace(filters, offset=2))
        assert [event.id for event in last.events] == ["1"]
    assert (pages[0].total, pages[0].total_estimated) == (3, False)


async def test_a_search_starts_with_the_filter_that_matches_the_fewest_events(
    database: Database, events: EventList, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, 10_000)
    monkeypatch.setattr(listing_module, "MAX_SEARCHED", 50)
    # 20 events of the name, 1,000 of the user, and 10,000 of the source.
    page = await events.page(ListEvents(source="posthog", user_id="u0", event="rare"))
    assert (len(page.events), page.next_before) == (20, None)
    none = await events.page(ListEvents(source="posthog", user_id="u1", event="rare"))
    assert (none.events, none.total, none.total_estimated, none.next_before) == ([], 0, False, None)


async def test_the_total_of_filters_without_a_common_event_is_0_and_estimated(
    database: Database, events: EventList, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, 10_000)
    monkeypatch.setattr(listing_module, "MAX_SEARCHED", 100)
    monkeypatch.setattr(listing_module, "MAX_CHECKED", 100)
    page = await events.page(ListEvents(event="e1", user_id="u2"))
    assert (page.events, page.total, page.total_estimated) == ([], 0, True)
    assert page.next_before is not None


@pytest.mark.parametrize("table", ["events", "contacts", "audit"])
async def test_a_list_that_exceeds_its_time_limit_fails_and_suggests_another_query(
    database: Database,
    events: EventList,
    trail: AuditTrail,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    for module in (listing_module, audit_module, directory_module):
        monkeypatch.setattr(module, "LIST_SECONDS", 0.05)
    directory = ContactDirectory(database)
    lists: dict[str, Callable[[], Awaitable[object]]] = {
        "events": lambda: events.page(ListEvents()),
        "contacts": lambda: directory.page(ListContacts()),
        "audit": lambda: trail.page(ListAudit()),
    }
    instead = {"events": "from and to", "contacts": "order=created", "audit": "before"}[table]
    async with database.acquire() as connection, connection.transaction():
        # The lock makes the list wait until its time limit.
        await connection.execute(f"LOCK TABLE {table}")
        with pytest.raises(Unavailable, match=instead):
            await lists[table]()
    # The time limit applied to that transaction only.
    monkeypatch.undo()
    await lists[table]()
    async with database.acquire() as first, database.acquire() as second:
        for connection in (first, second):
            assert await connection.fetchval("SHOW statement_timeout") == "0"


async def test_a_cursor_of_another_list_is_refused(
    database: Database, events: EventList, trail: AuditTrail
) -> None:
    await fill(database, 60)
    with pytest.raises(InvalidRequest):
        await trail.page(ListAudit(before=(await events.page(ListEvents())).next_before))


@pytest.mark.parametrize(
    "filters", [{}, {"event": "same"}, {"user_id": "same"}, {"source": "posthog"}], ids=str
)
async def test_a_page_of_many_events_with_the_same_time_reads_few_more_rows_than_it_shows(
    database: Database, filters: dict[str, str]
) -> None:
    await fill_with(database, "same", 5_000)
    query = listing_module._queries.page
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        values = {**filters, **ONE_FILTER, "by": next(iter(filters), "")}
        arguments = [values.get(name) for name in query.parameters]
        plan = json.loads(
            await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query.sql}", *arguments)
        )
    read = [
        node
        for node in nodes(plan[0]["Plan"])
        if node.get("Relation Name", "").startswith("events")
    ]
    assert read
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) < 100


@pytest.mark.parametrize("query", ["page", "total"])
@pytest.mark.parametrize(
    ("filters", "matching"), [({"event": "e1"}, 2_500), ({"user_id": "u3"}, 500)], ids=str
)
async def test_postgresql_estimates_the_matches_of_a_filter_correctly(
    database: Database, query: str, filters: dict[str, str], matching: int
) -> None:
    await fill(database, 5_000)
    statement = getattr(listing_module._queries, query)
    (by,) = filters
    values = {**filters, **ONE_FILTER, "by": by}
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        plan = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) {statement.sql}",
            *(values.get(name) for name in statement.parameters),
        )
    plan_nodes = nodes(json.loads(plan)[0]["Plan"])
    (scan,) = [node for node in plan_nodes if node.get("Relation Name", "").startswith("events")]
    assert scan["Plan Rows"] == pytest.approx(matching, rel=0.2)


@pytest.mark.parametrize("length", [98, 99, 100, 101])
async def test_a_filter_by_name_does_not_match_a_longer_name_with_the_same_start(
    database: Database, events: EventList, length: int
) -> None:
    await fill_with(database, "n" * length, 2)
    await fill_with(database, "n" * (length + 1), 3)
    page = await events.page(ListEvents(event="n" * length))
    assert [event.event for event in page.events] == ["n" * length] * page.total
    assert page.total == 2


async def test_every_page_is_read_by_index_and_skips_few_rows(
    database: Database, events: EventList, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, 30_000)
    middle = (await events.page(ListEvents(offset=15_000))).next_before
    entry = (await trail.page(ListAudit(offset=15_000))).next_before
    plans: list[Any] = []
    statements = record_statements(monkeypatch)
    for before in (None, middle):
        for filters in (
            {},
            {"event": "e1"},
            {"event": "rare"},
            {"user_id": "u3"},
            {"source": "posthog"},
            {"event": "rare", "user_id": "u0"},
            {"occurred_from": SAME},
            {"occurred_to": LAST},
            {"event": "absent"},
            {"id": "77"},
            {"id": "absent"},
            {"id": "77", "source": "posthog"},
        ):
            await events.page(ListEvents(**filters, before=before))
    for before in (None, entry):
        for audit_filters in ({}, {"action": "a.put"}, {"actor": "read"}, {"action": "absent"}):
            await trail.page(msgspec.structs.replace(ListAudit(before=before), **audit_filters))
    monkeypatch.undo()
    listed = [statement for statement in statements if "LIMIT" in statement[0]]
    assert len(listed) >= 2 * (24 + 8)
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        # The connections of a service disable sequential scans; here an index must be cheaper.
        await connection.execute("SET LOCAL enable_seqscan = on")
        for query, args in listed:
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *args)
            plans.append(json.loads(plan)[0]["Plan"])
    for plan, (query, args) in zip(plans, listed, strict=True):
        read = [node for node in nodes(plan) if node.get("Relation Name", "")[:5] in TABLES]
        assert read
        assert {node["Node Type"] for node in read} <= BY_INDEX, (query, args)
        for node in read:
            # Frequent events are found by scanning the list itself; rare ones need an index.
            skipped = node.get("Rows Removed by Filter", 0)
            assert skipped < 20 * node["Actual Rows"] + 100, (query, args)


BY_INDEX = {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
TABLES = {"event", "audit"}
