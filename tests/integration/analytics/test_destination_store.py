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
    made = Outcome(event_id=f"m_{number}", event_type="email.sent", status="delivered", attempts=1)
    return msgspec.structs.replace(made, **changes)


async def test_case_126_replicas_that_start_together_make_one_default_destination(
    store: DestinationStore,
) -> None:
    outcomes = await asyncio.gather(
        *(store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) for _ in range(10))
    )
    assert sorted(outcomes) == ["created", *["unchanged"] * 9]
    (one,) = await store.all()
    assert one.event_types == list(FUNNEL)
    assert one.given == {
        "eventNames": {"email.clicked": "email.link_clicked"},
        "syncPersons": True,
    }
    assert (one.url, one.kind, one.disabled, one.is_default) == (
        "posthog://capture",
        "posthog",
        False,
        True,
    )


async def test_cases_127_and_128_an_older_default_destination_is_completed(
    store: DestinationStore,
) -> None:
    old = msgspec.structs.replace(
        NEW, event_types=["email.replied", "email.sent"], config={"syncPersons": False}
    )
    await store.create(old, is_default=True)
    assert await store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) == "changed"
    assert await store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) == "unchanged"
    (one,) = await store.all()
    missing = [type for type in FUNNEL if type != "email.sent"]
    assert one.event_types == ["email.replied", "email.sent", *missing]
    assert one.given == {"syncPersons": False}


async def test_a_destination_that_an_operator_created_counts_as_one_and_stays_as_it_is(
    store: DestinationStore,
) -> None:
    made = await store.create(NEW)
    assert await store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults) == "unchanged"
    assert await store.all() == [made]


async def test_what_is_stored_is_what_is_read(store: DestinationStore) -> None:
    config = {"apiKey": "phc_1", "host": "https://x.y", "syncPersons": True, "note": {"a": [1]}}
    new = msgspec.structs.replace(NEW, description="mine", disabled=True, config=config)
    made = await store.create(new)
    assert await store.get(made.id) == made
    assert (made.given, made.description, made.disabled) == (config, "mine", True)
    assert (made.config.api_key, made.config.syncs_persons) == ("phc_1", True)
    changed = await store.change(
        made.id, lambda stored: msgspec.structs.replace(stored, disabled=False, url="https://a.b")
    )
    assert (changed.disabled, changed.url) == (False, "https://a.b")
    assert changed.updated_at > made.updated_at
    await store.delete(made.id)
    for missing in (store.get(made.id), store.delete(made.id), store.get(uuid4())):
        with pytest.raises(NotFound):
            await missing


async def test_a_page_is_a_part_of_what_matches(store: DestinationStore) -> None:
    made = [
        await store.create(msgspec.structs.replace(NEW, disabled=disabled))
        for disabled in (False, True, False)
    ]
    first = await store.page(ListDestinations(limit=2))
    rest = await store.page(ListDestinations(limit=2, offset=2))
    assert (len(first.webhooks), len(rest.webhooks), first.total) == (2, 1, 3)
    newest_first = [one.id for one in first.webhooks + rest.webhooks]
    assert newest_first == [str(one.id) for one in reversed(made)]
    active = await store.page(ListDestinations(include_disabled=False))
    assert ([one.disabled for one in active.webhooks], active.total) == ([False, False], 2)


async def test_text_that_postgresql_cannot_hold_is_refused(store: DestinationStore) -> None:
    with pytest.raises(InvalidRequest):
        await store.create(msgspec.structs.replace(NEW, config={"note": "a\0b"}))
    assert await store.all() == []


async def test_the_history_is_bounded_and_takes_any_text(
    store: DestinationStore, database_url: str
) -> None:
    made = await store.create(NEW)
    for first in range(0, 1500, 500):
        numbers = range(first, first + 500)
        await store.record(made.id, [outcome(n, event_id=f"m_{n}\0", error="\0") for n in numbers])
    connection = await asyncpg.connect(database_url)
    try:
        kept = await connection.fetch("SELECT event_id FROM analytics.deliveries")
    finally:
        await connection.close()
    assert len(kept) == KEPT_DELIVERIES
    assert {row["event_id"] for row in kept} == {f"m_{number}\ufffd" for number in range(500, 1500)}


async def test_an_event_has_one_row_with_its_last_outcome(store: DestinationStore) -> None:
    made, other = await store.create(NEW), await store.create(NEW)
    await store.record(made.id, [outcome(1, status="failed"), outcome(1, attempts=3)])
    await store.record(made.id, [outcome(2, status="skipped")])
    page = await store.deliveries(made.id, ListDeliveries(id=str(made.id)))
    assert [(one.event_id, one.status, one.attempts) for one in page.deliveries] == [
        ("m_2", "skipped", 1),
        ("m_1", "delivered", 3),
    ]
    skipped = await store.deliveries(made.id, ListDeliveries(id=str(made.id), status="skipped"))
    assert [one.event_id for one in skipped.deliveries] == ["m_2"]
    assert (await store.deliveries(other.id, ListDeliveries(id=str(other.id)))).total == 0
    assert (await store.get(made.id)).last_delivery_at is not None
    assert (await store.get(other.id)).last_delivery_at is None
    await store.record(other.id, [outcome(9, event_id="m_1:\0")])
    traced = (await store.event_deliveries(["m_1", "m_1:\ufffd"])).deliveries
    assert {(one.destination_id, one.attempts) for one in traced} == {
        (str(made.id), 3),
        (str(other.id), 1),
    }
    assert {one.description for one in traced} == {NEW.description}


async def test_outcomes_of_a_destination_that_is_gone_are_dropped(store: DestinationStore) -> None:
    await store.record(uuid4(), [outcome(1, event_id="e_gone")])
    assert (await store.event_deliveries(["e_gone"])).deliveries == []


async def test_replicas_that_create_together_make_no_more_than_are_allowed(
    store: DestinationStore,
) -> None:
    made = await asyncio.gather(
        *(store.create(NEW, max_destinations=2) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, InvalidRequest) for one in made) == 4
    assert len(await store.all()) == 2


async def test_a_failing_delivery_is_listed_by_every_replica_until_one_succeeds(
    store: DestinationStore,
) -> None:
    one = await store.create(NEW)
    paused = await store.create(msgspec.structs.replace(NEW, disabled=True))
    leader, other = (FailingConsumers(store._database, ["standing"]) for _ in range(2))
    for durable in ("standing", destination_durable(one.id), destination_durable(paused.id)):
        await leader.record_failure(durable, FAILED)
    first = (await other.list(store)).failing
    assert {failing.subject for failing in first} == {"standing", str(one.id)}
    await other.record_failure("standing", FAILED)
    assert (await other.list(store)).failing == first
    await leader.record_success("standing")
    await other.record_success(destination_durable(one.id))
    assert (await leader.list(store)).failing == []


async def test_a_failure_that_postgresql_does_not_take_is_counted_and_passed_over(
    store: DestinationStore,
) -> None:
    failing = FailingConsumers(store._database, ["a"])
    counted = FAILURES.labels("failing", "unavailable")
    before = counted._value.get()
    await failing.record_failure("a", msgspec.structs.replace(FAILED, next_seconds=1e17))
    assert counted._value.get() == before + 1
    assert (await failing.list(store)).failing == []


async def test_the_latest_attempt_that_failed_is_shown_until_one_succeeds(
    store: DestinationStore,
) -> None:
    one = await store.create(NEW)
    now = 0.0
    failing = FailingConsumers(store._database, [], lambda: now)
    durable = destination_durable(one.id)

    async def shown() -> Retrying | None:
        return (await store.deliveries(one.id, ListDeliveries(id=str(one.id)))).retrying

    assert await shown() is None
    await failing.record_failure(durable, FAILED)
    first = await shown()
    assert first is not None
    assert (first.attempts, first.response_status, first.error) == (1, 503, "HTTP 503: \ufffd")
    assert first.tried_at is not None
    assert first.next_attempt_at == first.tried_at + timedelta(seconds=20)
    # Not with every batch of a destination that gets many.
    await failing.record_failure(durable, msgspec.structs.replace(FAILED, attempts=2))
    assert await shown() == first
    now = WRITE_SECONDS
    last = msgspec.structs.replace(FAILED, attempts=8, response_status=None, next_seconds=None)
    await failing.record_failure(durable, last)
    second = await shown()
    assert second is not None
    assert (second.since, second.attempts) == (first.since, 8)
    assert (second.response_status, second.next_attempt_at) == (None, None)
    await store.change(one.id, lambda stored: msgspec.structs.replace(stored, disabled=True))
    assert await shown() is None
    # What waited was discarded meanwhile.
    await store.change(one.id, lambda stored: msgspec.structs.replace(stored, disabled=False))
    assert await shown() is None
    now += WRITE_SECONDS
    await failing.record_failure(durable, FAILED)
    assert await shown() is not None
    await failing.record_success(durable)
    assert await shown() is None
