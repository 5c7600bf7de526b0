"""One event's way, put together of what ingest and analytics know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from hogsend.contract.destinations import (
    ANALYTICS_EVENT_DELIVERIES,
    EventDeliveries,
    EventDeliveriesOf,
    EventDelivery,
)
from hogsend.contract.engagement import Engagement, engagement_message_id
from hogsend.contract.errors import Forbidden, NotFound
from hogsend.contract.events import INGEST_EVENT_TRACE, Announcement, EventTrace, StoredEvent
from hogsend.contract.headers import event_message_id
from tests.unit.gateway.fakes import FakeGateway, bearer

AT = datetime(2026, 1, 1, tzinfo=UTC)
PATH = "/v1/admin/events/trace"
WANTED = {"source": "hogsend", "id": "e-1", "event": "email.opened", "userId": ""}
TRACE = EventTrace(
    event=StoredEvent(
        id="e-1",
        event="email.opened",
        user_id="",
        contact_key="c",
        source="hogsend",
        occurred_at=AT,
        received_at=AT,
        properties={},
    ),
    correlation_id="r-1",
    queued_at=AT + timedelta(seconds=1),
    stored_at=AT + timedelta(seconds=2),
    announcement=Announcement(state="announced", at=AT, sequence=7),
)
DELIVERY = EventDelivery(
    event_id="e-1",
    event_type="email.opened",
    status="failed",
    attempts=3,
    response_status=500,
    error="no",
    finished_at=AT,
    destination_id="d-1",
    description=None,
)


async def test_an_event_is_followed_to_its_destinations(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_EVENT_TRACE, TRACE)
    gateway.bus.reply_with(ANALYTICS_EVENT_DELIVERIES, EventDeliveries(deliveries=[DELIVERY]))
    response = await gateway.http.get(PATH, params=WANTED, headers=bearer())
    found = response.json()
    assert (found["correlationId"], found["announcement"]["sequence"]) == ("r-1", 7)
    assert (found["queuedAt"], found["storedAt"]) == (
        "2026-01-01T00:00:01Z",
        "2026-01-01T00:00:02Z",
    )
    assert [one["destinationId"] for one in found["deliveries"]] == ["d-1"]
    asked = [one.message for one in gateway.bus.sent]
    # Services choose the id of a message themselves; that of what was posted is made of all four.
    known_as = event_message_id(source="hogsend", id="e-1", event="email.opened", user_id="")
    (ids,) = (one.event_ids for one in asked if isinstance(one, EventDeliveriesOf))
    assert {"e-1", known_as} <= set(ids)


@pytest.mark.parametrize("user_id", ["", "null"])
async def test_destinations_know_an_event_as_the_report_that_its_service_published(
    gateway: FakeGateway, user_id: str
) -> None:
    data = {"userId": user_id, "to": "Ada@Example.com"}
    report = Engagement(id="e:1", type="email.opened", timestamp=AT, data=data)
    recorded = structs.replace(TRACE.event, id="e:1:0123456789ab", user_id=user_id, properties=data)
    gateway.bus.reply_with(INGEST_EVENT_TRACE, structs.replace(TRACE, event=recorded))
    gateway.bus.reply_with(ANALYTICS_EVENT_DELIVERIES, EventDeliveries(deliveries=[DELIVERY]))
    await gateway.http.get(PATH, params={**WANTED, "id": recorded.id}, headers=bearer())
    (asked,) = (
        one.message for one in gateway.bus.sent if isinstance(one.message, EventDeliveriesOf)
    )
    # Without a `Nats-Msg-Id` of its own, or with one that the library made.
    assert {recorded.id, "e:1", engagement_message_id(report)} < set(asked.event_ids)


async def test_deliveries_that_nobody_tells_of_are_unknown(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_EVENT_TRACE, TRACE)
    for error in (None, Forbidden("no")):
        if error is not None:
            gateway.bus.reply_with(ANALYTICS_EVENT_DELIVERIES, error)
        response = await gateway.http.get(PATH, params=WANTED, headers=bearer())
        assert response.json()["deliveries"] is None


async def test_an_event_that_is_not_there_is_not_found(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_EVENT_TRACE, NotFound("there is no such event"))
    response = await gateway.http.get(PATH, params=WANTED, headers=bearer())
    assert response.status_code == 404


@pytest.mark.parametrize("missing", sorted(WANTED))
async def test_an_event_is_named_by_all_that_it_is_known_by(
    gateway: FakeGateway, missing: str
) -> None:
    rest = {name: value for name, value in WANTED.items() if name != missing}
    assert (await gateway.http.get(PATH, params=rest, headers=bearer())).status_code == 400


async def test_what_is_too_long_to_be_asked_for_is_refused(gateway: FakeGateway) -> None:
    response = await gateway.http.get(PATH, params={**WANTED, "id": "x" * 4097}, headers=bearer())
    assert response.status_code == 400
    assert "4096 characters" in response.text
    assert gateway.bus.sent == []
