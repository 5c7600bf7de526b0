"""The trace of one event, combined from the replies of ingest and analytics."""

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
QUERY = {"source": "hogsend", "id": "e-1", "event": "email.opened", "userId": ""}
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


async def test_a_trace_contains_the_deliveries_to_destinations(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_EVENT_TRACE, TRACE)
    gateway.bus.reply_with(ANALYTICS_EVENT_DELIVERIES, EventDeliveries(deliveries=[DELIVERY]))
    response = await gateway.http.get(PATH, params=QUERY, headers=bearer())
    trace = response.json()
    assert (trace["correlationId"], trace["announcement"]["sequence"]) == ("r-1", 7)
    assert (trace["queuedAt"], trace["storedAt"]) == (
        "2026-01-01T00:00:01Z",
        "2026-01-01T00:00:02Z",
    )
    assert [delivery["destinationId"] for delivery in trace["deliveries"]] == ["d-1"]
    requests = [sent.message for sent in gateway.bus.sent]
    # A service may choose the message id itself; the gateway derives it from all four fields.
    derived_id = event_message_id(source="hogsend", id="e-1", event="email.opened", user_id="")
    (ids,) = (request.event_ids for request in requests if isinstance(request, EventDeliveriesOf))
    assert {"e-1", derived_id} <= set(ids)


@pytest.mark.parametrize("user_id", ["", "null"])
async def test_deliveries_are_queried_by_every_id_that_the_report_may_have_had(
    gateway: FakeGateway, user_id: str
) -> None:
    data = {"userId": user_id, "to": "Ada@Example.com"}
    report = Engagement(id="e:1", type="email.opened", timestamp=AT, data=data)
    recorded = structs.replace(TRACE.event, id="e:1:0123456789ab", user_id=user_id, properties=data)
    gateway.bus.reply_with(INGEST_EVENT_TRACE, structs.replace(TRACE, event=recorded))
    gateway.bus.reply_with(ANALYTICS_EVENT_DELIVERIES, EventDeliveries(deliveries=[DELIVERY]))
    await gateway.http.get(PATH, params={**QUERY, "id": recorded.id}, headers=bearer())
    (request,) = (
        sent.message for sent in gateway.bus.sent if isinstance(sent.message, EventDeliveriesOf)
    )
    # The report had no `Nats-Msg-Id` of its own, or one that the library derived.
    assert {recorded.id, "e:1", engagement_message_id(report)} < set(request.event_ids)


async def test_deliveries_are_null_when_analytics_does_not_report_them(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(INGEST_EVENT_TRACE, TRACE)
    for error in (None, Forbidden("no")):
        if error is not None:
            gateway.bus.reply_with(ANALYTICS_EVENT_DELIVERIES, error)
        response = await gateway.http.get(PATH, params=QUERY, headers=bearer())
        assert response.json()["deliveries"] is None


async def test_the_trace_of_an_unknown_event_is_404(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_EVENT_TRACE, NotFound("there is no such event"))
    response = await gateway.http.get(PATH, params=QUERY, headers=bearer())
    assert response.status_code == 404


@pytest.mark.parametrize("missing", sorted(QUERY))
async def test_a_trace_requires_all_four_fields_of_an_event(
    gateway: FakeGateway, missing: str
) -> None:
    incomplete = {name: value for name, value in QUERY.items() if name != missing}
    assert (await gateway.http.get(PATH, params=incomplete, headers=bearer())).status_code == 400


async def test_an_id_over_the_length_limit_is_400(gateway: FakeGateway) -> None:
    response = await gateway.http.get(PATH, params={**QUERY, "id": "x" * 4097}, headers=bearer())
    assert response.status_code == 400
    assert "4096 characters" in response.text
    assert gateway.bus.sent == []
