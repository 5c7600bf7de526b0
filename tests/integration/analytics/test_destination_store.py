"""Destinations and their history in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from hogsend.contract.destinations import (
    CreateDestination,
    ListDeliveries,
    ListDestinations,
    Retrying,
)
from hogsend.contract.engagement import FUNNEL
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.service.database import Database
from hogsend.service.metrics import FAILURES
from services.analytics.app import MIGRATIONS
from services.analytics.delivery.failing import WRITE_SECONDS, Attempt, FailingConsumers
from services.analytics.destinations.default_destination import (
    DEFAULT_DESTINATION,
    with_missing_defaults,
)
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.store import KEPT_DELIVERIES, DestinationStore, Outcome

NEW = CreateDestination(url="posthog://capture", event_types=["email.sent"])
FAILED = Attempt(attempts=1, response_status=503, error="HTTP 503: \0", next_seconds=20)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[DestinationStore]:
    database = Database(database_url, "analytics", MIGRATIONS, pool_size=4)
    await database.connect()
    yield DestinationStore(database)
    await database.close()


def outcome(number: int, **changes: Any) -> Outcome:
    created = Outcome(
        event_id=f"m_{number}", event_type="email.sent", status="delivered", attempts=1
    )
    return msgspec.structs.replace(created, **changes)


async def test_case_126_replicas_that_start_together_create_one_default_destination(
    store: DestinationStore,
) -> None:
    outcomes = await asyncio.gather(
        *(store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) for _ in range(10))
    )
    assert sorted(outcomes) == ["created", *["unchanged"] * 9]
    (destination,) = await store.all()
    assert destination.event_types == list(FUNNEL)
    assert destination.given == {
        "eventNames": {"email.clicked": "email.link_clicked"},
        "syncPersons": True,
    }
    assert (
        destination.url,
        destination.kind,
        destination.disabled,
        destination.is_default,
    ) == (
        "posthog://capture",
        "posthog",
        False,
        True,
    )


async def test_cases_127_and_128_missing_event_types_are_added_to_the_default_destination(
    store: DestinationStore,
) -> None:
    old = msgspec.structs.replace(
        NEW, event_types=["email.replied", "email.sent"], config={"syncPersons": False}
    )
    await store.create(old, is_default=True)
    assert await store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) == "changed"
    assert await store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) == "unchanged"
    (destination,) = await store.all()
    missing = [type for type in FUNNEL if type != "email.sent"]
    assert destination.event_types == ["email.replied", "email.sent", *missing]
    assert destination.given == {"syncPersons": False}


async def test_no_default_destination_is_created_beside_one_of_an_operator(
    store: DestinationStore,
) -> None:
    created = await store.create(NEW)
    assert await store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) == "unchanged"
    assert await store.all() == [created]


async def test_a_destination_is_created_read_changed_and_deleted(store: DestinationStore) -> None:
    config = {"apiKey": "phc_1", "host": "https://x.y", "syncPersons": True, "note": {"a": [1]}}
    new = msgspec.structs.replace(NEW, description="mine", disabled=True, config=config)
    created = await store.create(new)
    assert await store.get(created.id) == created
    assert (created.given, created.description, created.disabled) == (config, "mine", True)
    assert (created.config.api_key, created.config.syncs_persons) == ("phc_1", True)
    changed = await store.change(
        created.id,
        lambda stored: msgspec.structs.replace(stored, disabled=False, url="https://a.b"),
    )
    assert (changed.disabled, changed.url) == (False, "https://a.b")
    assert changed.updated_at > created.updated_at
    await store.delete(created.id)
    for missing in (store.get(created.id), store.delete(created.id), store.get(uuid4())):
        with pytest.raises(NotFound):
            await missing


async def test_a_change_of_one_destination_does_not_affect_another(
    store: DestinationStore,
) -> None:
    other, first = await store.create(NEW), await store.create(NEW)
    await store.record(other.id, [outcome(1), outcome(2, status="failed")])
    before = await store.get(other.id)

    async def history(**filters: Any) -> list[str]:
        page = await store.deliveries(other.id, ListDeliveries(id=str(other.id), **filters))
        return [delivered.event_id for delivered in page.deliveries]

    await store.change(first.id, lambda stored: msgspec.structs.replace(stored, disabled=True))
    for numbers in (range(KEPT_DELIVERIES), range(KEPT_DELIVERIES, KEPT_DELIVERIES + 2)):
        await store.record(first.id, [outcome(number) for number in numbers])
    assert (await store.get(first.id)).disabled
    assert await store.get(other.id) == before
    assert await history() == ["m_2", "m_1"]
    assert await history(status="failed") == ["m_2"]
    await store.delete(first.id)
    assert await store.all() == [before]
    assert await history() == ["m_2", "m_1"]


async def test_a_page_of_destinations_is_a_part_of_those_that_match(
    store: DestinationStore,
) -> None:
    created = [
        await store.create(msgspec.structs.replace(NEW, disabled=disabled))
        for disabled in (False, True, False)
    ]
    first = await store.page(ListDestinations(limit=2))
    second = await store.page(ListDestinations(limit=2, offset=2))
    assert (len(first.webhooks), len(second.webhooks), first.total) == (2, 1, 3)
    newest_first = [webhook.id for webhook in first.webhooks + second.webhooks]
    assert newest_first == [str(destination.id) for destination in reversed(created)]
    active = await store.page(ListDestinations(include_disabled=False))
    assert ([webhook.disabled for webhook in active.webhooks], active.total) == ([False, False], 2)


async def test_a_destination_with_text_that_postgresql_cannot_store_is_refused(
    store: DestinationStore,
) -> None:
    with pytest.raises(InvalidRequest):
        await store.create(msgspec.structs.replace(NEW, config={"note": "a\0b"}))
    assert await store.all() == []


async def test_the_history_is_bounded_and_accepts_any_text(
    store: DestinationStore, database_url: str
) -> None:
    created = await store.create(NEW)
    for first in range(0, 1500, 500):
        numbers = range(first, first + 500)
        await store.record(
            created.id, [outcome(n, event_id=f"m_{n}\0", error="\0") for n in numbers]
        )
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT event_id FROM analytics.deliveries")
    finally:
        await connection.close()
    assert len(rows) == KEPT_DELIVERIES
    assert {row["event_id"] for row in rows} == {f"m_{number}\ufffd" for number in range(500, 1500)}


async def test_an_event_has_one_row_per_destination_with_its_last_outcome(
    store: DestinationStore,
) -> None:
    created, other = await store.create(NEW), await store.create(NEW)
    await store.record(created.id, [outcome(1, status="failed"), outcome(1, attempts=3)])
    await store.record(created.id, [outcome(2, status="skipped")])
    page = await store.deliveries(created.id, ListDeliveries(id=str(created.id)))
    assert [
        (delivery.event_id, delivery.status, delivery.attempts) for delivery in page.deliveries
    ] == [
        ("m_2", "skipped", 1),
        ("m_1", "delivered", 3),
    ]
    skipped = await store.deliveries(
        created.id, ListDeliveries(id=str(created.id), status="skipped")
    )
    assert [delivery.event_id for delivery in skipped.deliveries] == ["m_2"]
    assert (await store.deliveries(other.id, ListDeliveries(id=str(other.id)))).total == 0
    assert (await store.get(created.id)).last_delivery_at is not None
    assert (await store.get(other.id)).last_delivery_at is None
    await store.record(other.id, [outcome(9, event_id="m_1:\0")])
    traced = (await store.event_deliveries(["m_1", "m_1:\ufffd"])).deliveries
    assert {(delivery.destination_id, delivery.attempts) for delivery in traced} == {
        (str(created.id), 3),
        (str(other.id), 1),
    }
    assert {delivery.description for delivery in traced} == {NEW.description}


async def test_outcomes_of_a_deleted_destination_are_dropped(store: DestinationStore) -> None:
    await store.record(uuid4(), [outcome(1, event_id="e_1")])
    assert (await store.event_deliveries(["e_1"])).deliveries == []


async def test_concurrent_requests_create_at_most_the_permitted_number_of_destinations(
    store: DestinationStore,
) -> None:
    created = await asyncio.gather(
        *(store.create(NEW, max_destinations=2) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(outcome, InvalidRequest) for outcome in created) == 4
    assert len(await store.all()) == 2


async def test_a_failing_consumer_is_listed_by_every_replica_until_a_delivery_succeeds(
    store: DestinationStore,
) -> None:
    destination = await store.create(NEW)
    paused = await store.create(msgspec.structs.replace(NEW, disabled=True))
    leader, other = (FailingConsumers(store._database, ["standing"]) for _ in range(2))
    for durable in (
        "standing",
        destination_durable(destination.id),
        destination_durable(paused.id),
    ):
        await leader.record_failure(durable, FAILED)
    first = (await other.list(store)).failing
    assert {failing.subject for failing in first} == {"standing", str(destination.id)}
    await other.record_failure("standing", FAILED)
    assert (await other.list(store)).failing == first
    await leader.record_success("standing")
    await other.record_success(destination_durable(destination.id))
    assert (await leader.list(store)).failing == []


async def test_a_failure_that_cannot_be_stored_is_counted_and_not_raised(
    store: DestinationStore,
) -> None:
    failing = FailingConsumers(store._database, ["a"])
    failures = FAILURES.labels("failing", "unavailable")
    before = failures._value.get()
    await failing.record_failure("a", msgspec.structs.replace(FAILED, next_seconds=1e17))
    assert failures._value.get() == before + 1
    assert (await failing.list(store)).failing == []


async def test_the_last_failed_attempt_of_a_destination_is_shown_until_a_delivery_succeeds(
    store: DestinationStore,
) -> None:
    destination = await store.create(NEW)
    now = 0.0
    failing = FailingConsumers(store._database, [], lambda: now)
    durable = destination_durable(destination.id)

    async def shown() -> Retrying | None:
        return (
            await store.deliveries(destination.id, ListDeliveries(id=str(destination.id)))
        ).retrying

    assert await shown() is None
    await failing.record_failure(durable, FAILED)
    first = await shown()
    assert first is not None
    assert (first.attempts, first.response_status, first.error) == (1, 503, "HTTP 503: \ufffd")
    assert first.tried_at is not None
    assert first.next_attempt_at == first.tried_at + timedelta(seconds=20)
    # Within `WRITE_SECONDS` of the last write, a failure is not written.
    await failing.record_failure(durable, msgspec.structs.replace(FAILED, attempts=2))
    assert await shown() == first
    now = WRITE_SECONDS
    last = msgspec.structs.replace(FAILED, attempts=8, response_status=None, next_seconds=None)
    await failing.record_failure(durable, last)
    second = await shown()
    assert second is not None
    assert (second.since, second.attempts) == (first.since, 8)
    assert (second.response_status, second.next_attempt_at) == (None, None)
    await store.change(
        destination.id, lambda stored: msgspec.structs.replace(stored, disabled=True)
    )
    assert await shown() is None
    # A disabled destination discards its messages, so that no attempt is pending afterwards.
    await store.change(
        destination.id, lambda stored: msgspec.structs.replace(stored, disabled=False)
    )
    assert await shown() is None
    now += WRITE_SECONDS
    await failing.record_failure(durable, FAILED)
    assert await shown() is not None
    await failing.record_success(durable)
    assert await shown() is None
