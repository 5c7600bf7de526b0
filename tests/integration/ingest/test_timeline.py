"""The timeline of a contact lists its events, and reads few others."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from hogsend.contract.directory import ListTimeline
from hogsend.contract.errors import NotFound
from tests.integration.ingest.people import CROWD, People
from tests.statements import record_statements


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
        page = await people.timelines.page(ListTimeline(key="u_2", **filters))
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
    page = await people.timelines.page(ListTimeline(key="ada@example.com", type="email"))
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
    split = await people.timelines.page(ListTimeline(key="ada@example.com"))
    assert [entry.data["event"] for entry in split.timeline] == ["first"]
    with pytest.raises(NotFound, match="no contact 'u_9'"):
        await people.timelines.page(ListTimeline(key="u_9"))


async def test_a_timeline_lists_as_many_entries_as_fit_and_at_least_one(people: People) -> None:
    for _ in range(3):
        await people.store_event(user_id="u_2", text="x" * 1000)
    whole = (await people.timelines.page(ListTimeline(key="u_2"))).timeline
    for max_bytes, fitting in ((2500, 2), (1, 1)):
        page = await people.timelines.page(ListTimeline(key="u_2"), max_bytes=max_bytes)
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
            assert (await people.timelines.page(ListTimeline(key="ada"))).total == 11
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
