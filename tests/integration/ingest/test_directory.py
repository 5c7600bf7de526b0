"""Contacts are listed, searched, read and written, as the CLI and clients do."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from hogsend.contract.contacts import Origin
from hogsend.contract.directory import ListContacts
from hogsend.contract.engagement import Engagement
from hogsend.contract.errors import InvalidRequest
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts import directory
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.incoming_event import EventRef, IncomingEvent
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import ContactPosition, encode_cursor
from tests.integration.ingest.people import CROWD, People
from tests.query_plans import nodes
from tests.statements import record_statements

HOSTILE = "<script>\u202e"
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
