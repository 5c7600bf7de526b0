"""Webhooks of PostHog from the queue to the row, the list and the published event."""

from __future__ import annotations

import msgspec

from hogsend.contract.base import Empty
from hogsend.contract.events import INGEST_EVENTS, ListEvents
from hogsend.contract.health import INGEST_HEALTH
from tests.integration.ingest.driver import Driver


async def test_case_117_event_and_person_properties_are_stored_separately(driver: Driver) -> None:
    async with driver.replica():
        await driver.post(
            properties={"plan": "free"}, person={"properties": {"plan": "pro", "email": "a@b.com"}}
        )
        (event,) = await driver.events(1)
    row = await driver.rows.fetchrow("SELECT * FROM ingest.events")
    assert row is not None
    assert msgspec.json.decode(row["properties"]) == {"plan": "free", "_posthogEventId": "u-1"}
    (contact,) = await driver.contacts()
    assert msgspec.json.decode(contact["properties"]) == {"plan": "pro", "email": "a@b.com"}
    assert (contact["email"], contact["source"]) == ("a@b.com", "posthog")
    assert (event.properties["plan"], event.email) == ("free", "a@b.com")
    assert event.person_properties["plan"] == "pro"


async def test_case_124_the_key_of_a_merged_contact_resolves_to_the_survivor(
    driver: Driver,
) -> None:
    async with driver.replica():
        await driver.post("u-1", distinct_id="", person={"properties": {"email": "a@b.com"}})
        (first,) = await driver.events(1)
        await driver.post("u-2", distinct_id="anna")
        await driver.drained()
        await driver.post("u-3", distinct_id="anna", person={"properties": {"email": "a@b.com"}})
        await driver.drained()
        await driver.post("u-4", distinct_id=first.contact_key)
        events = await driver.events(4)
        listed = await driver.gateway.request(INGEST_EVENTS, ListEvents())
    assert events[-1].contact_key == "anna"
    assert [event.contact_key for event in listed.events] == ["anna"] * 4
    assert len(await driver.contacts()) == 1


async def test_events_are_listed_newest_first_with_filters_and_total(driver: Driver) -> None:
    async with driver.replica():
        for second in range(5):
            await driver.post(
                f"u-{second}",
                event="even" if second % 2 == 0 else "odd",
                distinct_id="anna" if second < 3 else "ben",
                received_at=f"2026-01-01T00:00:0{second}.000000Z",
            )
        await driver.drained()

        async def ids_and_total(**filters: object) -> tuple[list[str], int]:
            request = msgspec.convert(filters, ListEvents, strict=False)
            page = await driver.gateway.request(INGEST_EVENTS, request)
            return [event.id for event in page.events], page.total

        assert await ids_and_total() == (["u-4", "u-3", "u-2", "u-1", "u-0"], 5)
        assert await ids_and_total(limit=2, offset=1) == (["u-3", "u-2"], 5)
        assert await ids_and_total(event="even") == (["u-4", "u-2", "u-0"], 3)
        assert await ids_and_total(event="even", userId="anna") == (["u-2", "u-0"], 2)
        assert await ids_and_total(source="elsewhere") == ([], 0)
        assert await ids_and_total(userId="an\0na") == ([], 0)


async def test_health_reports_that_the_schema_is_in_sync(driver: Driver) -> None:
    async with driver.replica():
        health = await driver.gateway.request(INGEST_HEALTH, Empty())
    assert (health.service, health.database.status, health.schema.in_sync) == ("ingest", "up", True)
