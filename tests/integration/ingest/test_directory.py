"""Contacts are listed, searched, read, written and counted, as the CLI and clients do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from hogsend.contract.contacts import Origin
from hogsend.contract.directory import ListContacts, ListTimeline, RecordContact
from hogsend.contract.engagement import Engagement
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts import directory, reported
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.merges import ContactMerges
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.contact_recording import ContactRecorder
from services.ingest.events.recording import Recorder
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import ContactPosition, encode_cursor
from tests.event_rows import create_partition
from tests.statements import record_statements
from tests.unit.ingest.fakes import FakePublisher

HOSTILE = "<script>\u202e"
CROWD = """
WITH crowd AS (
    INSERT INTO contacts (id, source, external_id, properties, versions, created_at,
        first_seen_at, last_seen_at)
    SELECT gen_random_uuid(), 'posthog', 'u_' || n, '{}', '{}', now(), now(),
        now() - n * interval '1 second'
    FROM generate_series(1, 20000) AS n
    RETURNING id, external_id, last_seen_at
)
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', external_id, 'e', external_id, id, '{}', last_seen_at, last_seen_at FROM crowd
"""


# 20,000 mails in 20 days, of which every tenth bounced. 10,000 people unsubscribed, and half of
# these subscribed again.
MAILS = """
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'hogsend', kind || n, kind, external_id, contact.id, '{}', at, at
FROM generate_series(1, 20000) AS n
JOIN contacts AS contact ON external_id = 'u_' || n,
    LATERAL (VALUES ('email.sent', true), ('email.bounced', n % 10 = 0),
        ('contact.unsubscribed', n <= 10000), ('contact.subscribed', n <= 10000 AND n % 2 = 0)
    ) AS one (kind, happened),
    LATERAL (SELECT now() - (n - 0.5) * interval '86.4 seconds'
        + CASE kind WHEN 'contact.subscribed' THEN interval '1 second' ELSE interval '0' END AS at
    ) AS moment
WHERE happened
"""


TURKISH_LOWER = """
CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.lower(translate($1, 'I\u0130', '\u0131i'))
$$
"""


class Turkish(Database):
    """Searches with the schema's own `lower`, which follows the rules of Turkish."""

    @property
    def _statement_settings(self) -> dict[str, str]:
        return {**super()._statement_settings, "search_path": f"{self.schema}, pg_catalog"}


class People:
    """A contact directory, with the stores that fill it."""

    def __init__(self, database: Database) -> None:
        self.now = datetime.now(UTC) - timedelta(minutes=1)
        self.database = database
        self.store = EventStore(database, EventTable(database))
        self.directory = ContactDirectory(database)
        self.merges = ContactMerges(database)
        self.publisher = FakePublisher([])
        self.recorder = ContactRecorder(self.directory, Recorder(self.store, self.publisher))
        self._count = 0

    async def store_event(
        self,
        event: str = "opened",
        user_id: str = "",
        email: str | None = None,
        *,
        ago: timedelta = timedelta(),
        ahead: timedelta = timedelta(),
        source: str = "posthog",
        **properties: Any,
    ) -> None:
        self._count += 1
        stored = IncomingEvent(
            ref=EventRef(source, f"e-{self._count}"),
            name=event,
            user_id=user_id,
            email=email,
            occurred_at=self.now - ago + ahead,
            received_at=self.now - ago,
            properties=properties,
            person_properties={},
        )
        await self.store.save([stored])

    async def keys(self, **filters: Any) -> list[str]:
        page = await self.directory.page(ListContacts(**filters))
        return [contact.contact_key for contact in page.contacts]

    async def record(self, **fields: Any) -> tuple[str, bool, bool]:
        self.now += timedelta(seconds=1)
        done = await self.recorder.record(RecordContact(received_at=self.now, **fields), None)
        return done.id, done.created, done.linked


@pytest.fixture
async def people(database_url: str) -> AsyncIterator[People]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    async with database.acquire() as connection:
        await create_partition(connection)
    yield People(database)
    await database.close()


async def test_contacts_are_listed_by_search_text_by_key_and_by_identity(people: People) -> None:
    await people.store_event(user_id="Acme-1", email="ada@example.com", ago=timedelta(hours=2))
    await people.store_event(user_id="u_2", email="ben@acme.example", ago=timedelta(hours=1))
    await people.store_event(user_id="u_3")
    assert await people.keys() == ["u_3", "u_2", "Acme-1"]
    assert await people.keys(limit=1, offset=1) == ["u_2"]
    assert await people.keys(search="ACME") == ["u_2", "Acme-1"]
    assert await people.keys(search="%") == [], "a wildcard of LIKE is searched literally"
    assert await people.keys(search="") == ["u_3", "u_2", "Acme-1"]
    assert await people.keys(key="ada@example.com") == ["Acme-1"]
    assert await people.keys(user_id="u_2", email="Ada@Example.com ") == ["u_2", "Acme-1"]
    assert await people.keys(user_id="ada@example.com") == []
    assert await people.keys(user_id="null") == []
    page = await people.directory.page(ListContacts(search="acme", limit=1))
    assert (page.total, page.total_estimated, page.limit, page.offset) == (2, False, 1, 0)
    (contact,) = (await people.directory.page(ListContacts(key=page.contacts[0].id))).contacts
    assert (contact.external_id, contact.email) == ("u_2", "ben@acme.example")
    assert contact.created_at == contact.first_seen_at == people.now - timedelta(hours=1)


async def test_a_search_ignores_case_as_unicode_does_in_a_database_with_a_turkish_locale(
    people: People, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.store_event(user_id="ivan", email="info@istanbul.example")
    await people.store_event(user_id="INGRID" + 100 * "I")
    async with people.database.acquire() as connection:
        # The embedded server has no Turkish locale.
        await connection.execute(TURKISH_LOWER)
    searching = Turkish(database_url, "ingest", MIGRATIONS, pool_size=1)
    await searching.connect()
    people.directory = ContactDirectory(searching)
    for recent in (0, 10):
        monkeypatch.setattr(directory, "RECENT", recent)
        for text in ("INFO@I", "info@i", "Info@Ist", "IVAN", "ivan", "Ivan"):
            assert await people.keys(search=text) == ["ivan"], text
        for text in ("INGRID", "ingrid", "INGRID" + 100 * "I", "ingrid" + 99 * "i"):
            assert len(await people.keys(search=text)) == 1, text
        assert await people.keys(search="INGRID" + 100 * "I" + "X") == []
    await searching.close()


async def test_all_contacts_are_searched_by_prefix_and_the_newest_by_any_part(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "n" * 99 + "%" + "N" * 50
    await people.store_event(user_id="Acme_1", email="ada@Example.com", ago=timedelta(hours=3))
    await people.store_event(user_id="u_2", email="ben@acme.example", ago=timedelta(hours=2))
    await people.store_event(user_id=long, ago=timedelta(hours=1))
    monkeypatch.setattr(directory, "RECENT", 1)
    (old,) = (await people.directory.page(ListContacts(key="Acme_1"))).contacts
    for order in ("lastSeen", "created"):
        matches = {
            search: await people.keys(order=order, search=search)
            for search in (
                "acme",
                "ACME_",
                "acme%",
                "ADA@",
                "ben@acme.example",
                "example",
                "Acme_1x",
            )
        }
        assert matches == {
            "acme": ["Acme_1"],
            "ACME_": ["Acme_1"],
            "acme%": [],
            "ADA@": ["Acme_1"],
            "ben@acme.example": ["u_2"],
            "example": [],
            "Acme_1x": [],
        }
        for part in (old.id, old.id[:13].upper()):
            assert await people.keys(order=order, search=part) == ["Acme_1"]
        assert await people.keys(order=order, search="%n") == [long]
        assert await people.keys(order=order, search=long.upper()) == [long]
        monkeypatch.setattr(directory, "RECENT", 0)
        assert await people.keys(order=order, search=long) == [long]
        assert await people.keys(order=order, search=f"{long}n") == []
        monkeypatch.setattr(directory, "RECENT", 1)
    assert (await people.directory.page(ListContacts(search="acme", offset=7))).total == 1
    monkeypatch.setattr(directory, "MAX_BY_PREFIX", 1)
    page = await people.directory.page(ListContacts(search="ada@"))
    assert ([contact.contact_key for contact in page.contacts], page.total_estimated) == (
        ["Acme_1"],
        True,
    )
    for no_id in (old.id.replace("-", "")[:12], f"{old.id}0", "{" + old.id[:5], "g"):
        assert await people.keys(search=no_id) == []


async def test_the_newest_contacts_are_listed_page_by_page(people: People) -> None:
    for number in range(5):
        await people.store_event(user_id=f"u_{number}", ago=timedelta(hours=9 - number))
    # Created at the same time as u_4, so their ids decide the order.
    await people.store_event(user_id="u_5", ago=timedelta(hours=5))
    # A later event does not change when the contact was created.
    await people.store_event(user_id="u_0")
    keys: list[str] = []
    before: str | None = None
    for _ in range(3):
        page = await people.directory.page(ListContacts(order="created", limit=2, before=before))
        keys += [contact.contact_key for contact in page.contacts]
        assert page.total == 6
        assert page.next_before is not msgspec.UNSET
        before = page.next_before
    assert before is None
    assert sorted(keys[:2]) == ["u_4", "u_5"]
    assert keys[2:] == ["u_3", "u_2", "u_1", "u_0"]
    assert await people.keys(order="created", search="U_1") == ["u_1"]
    for wrong in (
        ListContacts(order="created", before="bm9uc2Vuc2U"),
        ListContacts(order="created", offset=1),
        ListContacts(before=encode_cursor(ContactPosition(people.now, uuid4()))),
    ):
        with pytest.raises(InvalidRequest):
            await people.directory.page(wrong)


async def test_contacts_are_in_the_same_order_when_read_by_their_latest_events(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = timedelta(minutes=1)
    for number in range(6):
        await people.store_event(user_id=f"u_{number}", ago=number * minutes)
    await people.store_event(user_id="busy")
    for _ in range(5):
        await people.store_event(user_id="busy", ago=2 * minutes)
    await people.store_event(email="ada@example.com", ago=minutes / 2)
    await people.store_event(user_id="u_4", email="ada@example.com", ago=9 * minutes)
    (undone,) = (await people.merges.find("u_4")).contacts[0].merges
    await people.store_event(user_id="u_5", email="ben@example.com", ago=3 * minutes)
    await people.store_event(user_id="u_6", ago=timedelta(days=2))
    # This event stays, although a later one of u_6 is deleted.
    await people.store_event(user_id="late", ago=timedelta(days=3))
    # Events with a time in the future: the contact was seen when the event was received.
    for number in range(3):
        await people.store_event(
            user_id=f"ahead_{number}", ago=number * minutes, ahead=1000 * minutes
        )
    for days in (4, 5):
        long_ago = timedelta(days=days)
        await people.store_event(user_id=f"ago_{days}", ago=long_ago, ahead=10 * long_ago)
    async with people.database.acquire() as connection:
        await connection.execute("DELETE FROM events WHERE user_id = 'u_6'")
    pages = [{"limit": limit, "offset": offset} for limit in (1, 2, 3, 100) for offset in range(17)]

    async def listed() -> list[list[str]]:
        return [await people.keys(**page) for page in pages]

    sort = directory._queries.contacts_cursor
    sorted_pages = 0

    def counting_sort(*args: Any, **fields: Any) -> Any:
        nonlocal sorted_pages
        sorted_pages += 1
        return sort(*args, **fields)

    for is_split in (False, True):
        if is_split:
            await people.merges.split(undone.id)
        with monkeypatch.context() as patched:
            expected = await listed()
            patched.setattr(directory, "EXACT_TOTAL", 1)
            patched.setattr(directory._queries, "contacts_cursor", counting_sort)
            for latest, beyond in ((1, 10), (3, 0), (7, 10), (8, 1), (100, 0), (100, 10)):
                sorted_pages = 0
                patched.setattr(directory, "LATEST", latest)
                patched.setattr(directory, "BEYOND", beyond)
                assert await listed() == expected
            # Only the deepest pages, and pages that are not full, are sorted.
            assert 0 < sorted_pages < len(pages) / 2 + 12


@pytest.mark.parametrize(
    ("query", "max_rows"),
    [
        # The latest events, and the contacts of some of these events.
        (ListContacts(), 400 + 50 + 6 + 10),
        # The matches of an index, the newest contacts, and one page.
        (ListContacts(search="u_"), 300 + 1_000 + 50),
    ],
    ids=["seen last", "searched"],
)
async def test_a_page_of_many_contacts_reads_few_more_rows_than_it_shows(
    people: People, monkeypatch: pytest.MonkeyPatch, query: ListContacts, max_rows: int
) -> None:
    for name, value in (("EXACT_TOTAL", 1_000), ("RECENT", 1_000), ("MAX_BY_PREFIX", 300)):
        monkeypatch.setattr(directory, name, value)
    async with people.database.acquire() as connection:
        for statement in (CROWD, "ANALYZE contacts, events"):
            await connection.execute(statement)
        with monkeypatch.context() as patched:
            statements = record_statements(patched)
            assert len((await people.directory.page(query)).contacts) == query.limit
        sql, args = next(item for item in statements if "AS MATERIALIZED" in item[0])
        async with list_snapshot(people.database, 60, "") as planning:
            plan = await planning.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args)
    assert not any("FROM contacts ORDER BY last_seen_at" in sql for sql, _ in statements)
    read = [node for node in nodes(json.loads(plan)[0]["Plan"]) if "Relation Name" in node]
    rows = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in read
    )
    assert read
    assert rows <= max_rows


async def test_each_property_of_a_contact_names_the_event_that_set_it(people: People) -> None:
    long = "x" * 1000
    events: list[tuple[str, str | None, dict[str, Any], int]] = [
        ("e-old", "ada@example.com", {"plan": "free", "gone": 1}, 3),
        ("e-new", None, {"plan": "pro", "gone": None}, 2),
        (long, None, {"a": HOSTILE}, 1),
    ]
    for id, email, properties, ago in events:
        at = people.now - timedelta(hours=ago)
        stored = IncomingEvent(
            ref=EventRef("posthog", id),
            name="seen",
            user_id="u_1",
            email=email,
            occurred_at=at,
            received_at=at,
            properties={},
            person_properties=properties,
        )
        await people.store.save([stored])
    (contact,) = (await people.merges.find("u_1")).contacts
    hours = people.now - timedelta(hours=2)
    assert contact.origins == {
        "plan": Origin(at=hours, event_id="e-new"),
        "a": Origin(at=hours + timedelta(hours=1), event_id=long[:200]),
    }
    assert contact.email_origin == Origin(at=hours - timedelta(hours=1), event_id="e-old")


async def test_a_timeline_lists_all_events_of_a_contact_and_no_others(
    people: People,
) -> None:
    hours = timedelta(hours=1)
    await people.store_event("first", email="ada@example.com", ago=6 * hours)
    await people.store_event("second", "u_2", ago=5 * hours)
    # This event merges the two contacts.
    await people.store_event("third", "u_2", "ada@example.com", ago=4 * hours)
    # The id is a placeholder, so the email identifies the person.
    await people.store_event("form", " Anonymous", "ada@example.com", ago=3.5 * hours)
    sent: dict[str, Any] = {"to": "ada@example.com", "subject": "Hi", "templateKey": "welcome"}
    await people.store_event("email.sent", "u_2", ago=3 * hours, source="hogsend", **sent)
    await people.store_event("email.sent", "u_2", ago=2 * hours)
    await people.store_event("other", "u_3")
    await people.store_event("mailed", email="cleo@example.com")

    async def names(**filters: Any) -> list[str]:
        page = await people.directory.timeline(ListTimeline(key="u_2", **filters))
        return [f"{entry.type} {entry.data['event']}" for entry in page.timeline]

    everything = [
        *("event email.sent", "email email.sent", "event form", "event third", "event second"),
        "event first",
    ]
    assert await names() == everything
    assert await names(limit=2, offset=1) == everything[1:3]
    assert await names(type="email") == ["email email.sent"]
    assert await names(type="event") == [name for name in everything if name[:5] == "event"]
    assert await names(type="journey") == []
    page = await people.directory.timeline(ListTimeline(key="ada@example.com", type="email"))
    (mail,) = page.timeline
    assert page.total == 1
    assert mail.data == {
        "id": "e-5",
        "event": "email.sent",
        "source": "hogsend",
        "properties": sent,
        "status": "sent",
        "subject": "Hi",
        "templateKey": "welcome",
        "toEmail": "ada@example.com",
    }
    (undone,) = (await people.merges.find("u_2")).contacts[0].merges
    await people.merges.split(undone.id)
    split = await people.directory.timeline(ListTimeline(key="ada@example.com"))
    assert [entry.data["event"] for entry in split.timeline] == ["first"]
    with pytest.raises(NotFound, match="no contact 'u_9'"):
        await people.directory.timeline(ListTimeline(key="u_9"))


async def test_a_timeline_lists_as_many_entries_as_fit_and_at_least_one(people: People) -> None:
    for _ in range(3):
        await people.store_event(user_id="u_2", text="x" * 1000)
    whole = (await people.directory.timeline(ListTimeline(key="u_2"))).timeline
    for max_bytes, fitting in ((2500, 2), (1, 1)):
        page = await people.directory.timeline(ListTimeline(key="u_2"), max_bytes=max_bytes)
        assert (page.timeline, page.total) == (whole[:fitting], 3)


async def test_a_timeline_reads_no_event_of_other_contacts(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.store_event(user_id="ada", email="ada@example.com")
    for user_id in ("", "null"):
        for _ in range(5):
            await people.store_event(user_id=user_id, email="ada@example.com")
    async with people.database.acquire() as connection:
        # Events of other contacts, and as many events without a user id.
        await connection.execute(CROWD)
        await connection.execute(CROWD.replace("'e', external_id", "'e', ''"))
        await connection.execute("VACUUM ANALYZE events")
        with monkeypatch.context() as patched:
            statements = record_statements(patched)
            assert (await people.directory.timeline(ListTimeline(key="ada"))).total == 11
        read = 0
        for query, args in statements:
            if "FROM events" in query:
                plan = json.loads(
                    await connection.fetchval(
                        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *args
                    )
                )[0]["Plan"]
                read += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert 0 < read < 30


async def test_an_overview_counts_people_and_reported_emails(people: People) -> None:
    empty = await people.directory.overview()
    assert (empty.total_contacts, empty.bounce_rate30d, empty.unsubscribe_rate) == (0, 0.0, 0.0)
    for days in (0, 2, 10, 40):
        ago = timedelta(days=days)
        await people.store_event("email.sent", "u_1", ago=ago, source="hogsend")
    await people.store_event("email.sent", "u_1")
    await people.store_event("email.bounced", "u_1", source="hogsend", ago=timedelta(days=3))
    for user in ("u_1", "u_2", "u_3"):
        await people.store_event("contact.unsubscribed", user, source="hogsend", scope="all")
    people.now += timedelta(seconds=1)
    await people.store_event("contact.subscribed", "u_1", source="hogsend", scope="all")
    await people.store_event("contact.unsubscribed", "u_4", source="hogsend", scope="list")
    counted = await people.directory.overview()
    assert (counted.emails_sent24h, counted.emails_sent7d, counted.emails_sent30d) == (1, 2, 3)
    assert (counted.bounce_rate30d, counted.unsubscribe_rate) == (1 / 3, 0.5)
    assert (counted.total_contacts, counted.events24h, counted.active_journeys) == (4, 7, 0)
    assert (counted.total_contacts_estimated, counted.events24h_estimated) == (False, False)


async def test_an_overview_of_many_contacts_and_events_is_reported_as_estimated(
    people: People,
) -> None:
    async with people.database.acquire() as connection:
        for statement in (CROWD, "ANALYZE contacts, events"):
            await connection.execute(statement)
    counted = await people.directory.overview()
    assert (counted.total_contacts_estimated, counted.events24h_estimated) == (True, True)
    assert counted.total_contacts == pytest.approx(20_000, rel=0.1)
    assert counted.events24h == pytest.approx(20_000, rel=0.1)


async def test_an_overview_of_many_emails_is_estimated_from_the_latest_ones(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reported, "MAX_READ", 500)
    monkeypatch.setattr(reported, "EXACT_MAILS", 4_000)
    async with people.database.acquire() as connection:
        for statement in (CROWD, "DELETE FROM events", MAILS, "ANALYZE contacts, events"):
            await connection.execute(statement)
        with monkeypatch.context() as patched:
            statements = record_statements(patched)
            counted = await people.directory.overview()
        reads = [item for item in statements if "left(event" in item[0]]
        rows = 0.0
        async with list_snapshot(people.database, 60, "") as planning:
            for query, args in reads:
                plan = await planning.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *args)
                scans = [
                    node for node in nodes(json.loads(plan)[0]["Plan"]) if "Index Name" in node
                ]
                rows += sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in scans)
    assert counted.emails_sent24h == pytest.approx(1_000, rel=0.5)
    assert counted.emails_sent7d == pytest.approx(7_000, rel=0.5)
    assert counted.emails_sent30d == pytest.approx(20_000, rel=0.5)
    assert counted.bounce_rate30d == pytest.approx(0.1, rel=0.5)
    assert counted.unsubscribe_rate == pytest.approx(0.25, rel=0.5)
    assert (counted.emails_estimated, counted.unsubscribe_rate_estimated) == (True, True)
    assert len(reads) == 3
    assert rows < 500 + 500 + 2 * 500 + 100
    monkeypatch.setattr(reported, "EXACT_MAILS", 20_000)
    counted = await people.directory.overview()
    assert (counted.emails_sent24h, counted.emails_sent30d) == (1_000, 20_000)
    assert counted.bounce_rate30d == 0.1
    assert not counted.emails_estimated
    monkeypatch.setattr(reported, "EXACT_MAILS", 19_999)
    assert (await people.directory.overview()).emails_estimated


async def test_a_contact_is_created_updated_and_linked(people: People) -> None:
    id, *outcome = await people.record(email=" Ada@Example.com", properties={"plan": "pro"})
    assert outcome == [True, False]
    assert await people.record(email="ada@example.com") == (id, False, False)
    linked = await people.record(user_id="u_1", email="ada@example.com", properties={"seats": 5})
    assert linked == (id, False, True)
    (contact,) = (await people.directory.page(ListContacts(key="u_1"))).contacts
    assert (contact.email, contact.properties) == ("ada@example.com", {"plan": "pro", "seats": 5})
    other, *_ = await people.record(user_id="u_2")
    assert other != id
    _, created, merged = await people.record(user_id="u_2", email="ada@example.com")
    assert (created, merged) == (False, True)
    names = [event.event for event in people.publisher.events()]
    assert names == ["contact.created", *["contact.updated"] * 2, "contact.created", names[-1]]
    reported_contacts = [
        msgspec.json.decode(message.body, type=Engagement).data
        for message in people.publisher.published.values()
        if message.subject.startswith("hogsend.engagement.contact.")
    ]
    # A destination sends a contact without a user id under the contact's own id.
    assert (reported_contacts[0]["id"], "externalId" in reported_contacts[0]) == (id, False)
    assert (reported_contacts[2]["externalId"], reported_contacts[2]["properties"]) == (
        "u_1",
        {"seats": 5},
    )
    with pytest.raises(InvalidRequest, match="must name a person"):
        await people.record(user_id="null", email="n/a")


async def test_a_repeated_link_of_a_contact_is_reported_once(people: People) -> None:
    # A user id that is a UUID could also be the id of a contact.
    user_id, email = str(uuid4()), "ada@example.com"
    id, *outcome = await people.record(user_id=user_id)
    assert outcome == [True, False]
    assert await people.record(user_id=user_id, properties={"plan": "pro"}) == (id, False, False)
    assert await people.record(user_id=user_id, email=email) == (id, False, True)
    assert await people.record(user_id=user_id, email=email) == (id, False, False)
    # The contact's own id becomes one of its user ids.
    assert await people.record(user_id=id) == (id, False, True)
    assert await people.record(user_id=id) == (id, False, False)


async def test_contacts_that_were_split_are_not_linked_again(people: People) -> None:
    email = "ada@example.com"
    await people.record(email=email)
    id, *_ = await people.record(user_id="u_1")
    assert (await people.record(user_id="u_1", email=email))[1:] == (False, True)
    (contact,) = (await people.merges.find("u_1")).contacts
    await people.merges.split(contact.merges[0].id)
    assert await people.record(user_id="u_1", email=email) == (id, False, False)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a query plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
