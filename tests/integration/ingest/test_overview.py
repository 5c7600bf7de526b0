"""The overview counts contacts, events and reported emails, or estimates many of them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from services.ingest.contacts import reported
from services.ingest.list_snapshot import list_snapshot
from tests.integration.ingest.people import CROWD, People
from tests.query_plans import nodes
from tests.statements import record_statements

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


async def test_an_overview_counts_people_and_reported_emails(people: People) -> None:
    empty = await people.overviews.read()
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
    counted = await people.overviews.read()
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
    counted = await people.overviews.read()
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
            counted = await people.overviews.read()
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
    counted = await people.overviews.read()
    assert (counted.emails_sent24h, counted.emails_sent30d) == (1_000, 20_000)
    assert counted.bounce_rate30d == 0.1
    assert not counted.emails_estimated
    monkeypatch.setattr(reported, "EXACT_MAILS", 19_999)
    assert (await people.overviews.read()).emails_estimated
