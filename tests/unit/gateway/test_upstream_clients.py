"""What upstream's command (`packages/cli`) and client (`packages/client`), 0.67, send and read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hogsend.contract.destinations import (
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    DestinationPage,
    OutboundDestination,
)
from hogsend.contract.events import (
    INGEST_EVENTS,
    INGEST_RECORD,
    EventPage,
    ListEvents,
    Recorded,
    RecordEvent,
)
from tests.unit.gateway.fakes import INGEST_KEY, FakeGateway, bearer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS, WEBHOOKS = "/v1/admin/events", "/v1/admin/webhooks"
ID = "11111111-1111-1111-1111-111111111111"


def destination(*, disabled: bool = False) -> OutboundDestination:
    return OutboundDestination(
        id=ID,
        url="posthog://capture",
        kind="posthog",
        description=None,
        event_types=["email.sent"],
        config={},
        disabled=disabled,
        last_delivery_at=None,
        created_at=NOW,
        updated_at=NOW,
    )


def is_endpoint(shown: dict[str, Any], status: str) -> bool:
    """Whether it has what both read of an endpoint."""
    return (
        {"id", "url", "description", "eventTypes", "secretPrefix", "kind", "config"} <= set(shown)
        and {"organizationId", "lastDeliveryAt", "createdAt", "updatedAt"} <= set(shown)
        and shown["status"] == status
    )


async def test_webhooks_list_reads_endpoints_with_a_status(gateway: FakeGateway) -> None:
    page = DestinationPage(
        webhooks=[destination(), destination(disabled=True)], total=2, limit=50, offset=0
    )
    gateway.bus.answer(ANALYTICS_LIST_DESTINATIONS, page)
    answer = await gateway.http.get(f"{WEBHOOKS}?includeDisabled=true", headers=bearer())
    listed = answer.json()
    assert answer.status_code == 200
    assert is_endpoint(listed["endpoints"][0], "enabled")
    assert is_endpoint(listed["endpoints"][1], "disabled")
    assert listed["endpoints"] == listed["webhooks"]
    assert (listed["total"], listed["limit"], listed["offset"]) == (2, 50, 0)


async def test_every_answer_with_one_endpoint_has_a_status(gateway: FakeGateway) -> None:
    for endpoint in (
        ANALYTICS_CREATE_DESTINATION,
        ANALYTICS_GET_DESTINATION,
        ANALYTICS_CHANGE_DESTINATION,
    ):
        gateway.bus.answer(endpoint, destination(disabled=True))
    new = {"url": "https://x.example/hook", "eventTypes": ["email.sent"], "kind": "posthog"}
    changes = {"disabled": True, "kind": "posthog"}
    answers = [
        await gateway.http.post(WEBHOOKS, json=new, headers=bearer()),
        await gateway.http.get(f"{WEBHOOKS}/{ID}", headers=bearer()),
        await gateway.http.patch(f"{WEBHOOKS}/{ID}", json=changes, headers=bearer()),
        await gateway.http.post(f"{WEBHOOKS}/{ID}/pause", headers=bearer()),
        await gateway.http.post(f"{WEBHOOKS}/{ID}/resume", headers=bearer()),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200]
    assert all(is_endpoint(answer.json(), "disabled") for answer in answers)


async def test_a_destinations_kind_cannot_change(gateway: FakeGateway) -> None:
    answer = await gateway.http.patch(
        f"{WEBHOOKS}/{ID}", json={"kind": "webhook"}, headers=bearer()
    )
    assert answer.status_code == 400
    assert gateway.bus.questions == []


async def test_events_are_asked_for_by_when_they_happened(gateway: FakeGateway) -> None:
    gateway.bus.answer(INGEST_EVENTS, EventPage(events=[], total=0, limit=10, offset=0))
    answer = await gateway.http.get(
        EVENTS,
        params={
            "userId": "u",
            "event": "signup",
            "from": "2026-01-01T00:00:00Z",
            "to": "2026-01-02T00:00:00+02:00",
            "limit": 10,
            "offset": 0,
        },
        headers=bearer(),
    )
    assert answer.status_code == 200
    assert gateway.bus.questions[0].message == ListEvents(
        event="signup",
        user_id="u",
        occurred_from=NOW,
        occurred_to=datetime(2026, 1, 1, 22, tzinfo=UTC),
        limit=10,
    )


@pytest.mark.parametrize(
    "query",
    [
        *("from=yesterday", "to=2026-01-01", "from=", "to=2026-02-30T00:00:00Z"),
        *("form=2026-01-01T00:00:00Z", "From=2026-01-01T00:00:00Z", "user_id=u", "x", "userId[]=u"),
    ],
)
async def test_a_filter_that_cannot_work_is_refused(gateway: FakeGateway, query: str) -> None:
    answer = await gateway.http.get(f"{EVENTS}?{query}", headers=bearer())
    assert answer.status_code == 400
    assert answer.json()["error"]["name"] == "ZodError"
    assert gateway.bus.questions == []


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", WEBHOOKS),
        ("DELETE", f"{WEBHOOKS}/{ID}"),
        ("GET", "/v1/admin/deadletters"),
        ("GET", "/v1/admin/audit"),
        ("GET", "/v1/admin/analytics/connect-info"),
        ("POST", "/v1/events"),
    ],
)
async def test_a_query_key_that_a_route_does_not_know_is_refused(
    gateway: FakeGateway, method: str, url: str
) -> None:
    body = {"event": "e", "userId": "u"} if method == "POST" else None
    answer = await gateway.http.request(method, f"{url}?dryrun=1", json=body, headers=bearer())
    assert answer.status_code == 400
    assert "unknown query key 'dryrun'" in answer.json()["error"]["message"]
    assert gateway.bus.questions == []


async def test_who_may_not_ask_learns_nothing_about_query_keys(gateway: FakeGateway) -> None:
    assert (await gateway.http.get(f"{EVENTS}?nope=1")).status_code == 401


async def test_urls_that_others_write_may_have_any_query(gateway: FakeGateway) -> None:
    assert (await gateway.http.get("/livez?probe=1")).status_code == 200
    assert (await gateway.http.post("/v1/webhooks/posthog?x=1")).status_code == 401


async def test_events_send_says_name_and_event_properties(gateway: FakeGateway) -> None:
    gateway.bus.answer(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    answer = await gateway.http.post(
        "/v1/events",
        json={
            "name": "signup",
            "userId": "u",
            "eventProperties": {"plan": "pro"},
            "contactProperties": {"tier": 1},
            "idempotencyKey": "k",
        },
        headers={**bearer(INGEST_KEY), "Idempotency-Key": "k"},
    )
    assert answer.status_code == 202
    # The command counts and filters `exits`.
    assert (answer.json()["stored"], answer.json()["exits"]) == (True, [])
    assert "listsError" not in answer.json()
    asked = gateway.bus.questions[0].message
    assert isinstance(asked, RecordEvent)
    assert (asked.event, asked.properties) == ("signup", {"plan": "pro"})
    assert asked.contact_properties == {"tier": 1}


async def test_lists_that_do_not_exist_are_named_while_the_event_is_stored(
    gateway: FakeGateway,
) -> None:
    gateway.bus.answer(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    event = {"name": "signup", "userId": "u", "lists": {"news": True}}
    answer = await gateway.http.post("/v1/events", json=event, headers=bearer(INGEST_KEY))
    assert answer.status_code == 202
    assert "no mailing lists" in answer.json()["listsError"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "event is required"),
        ({"event": "e"}, "userId or email"),
        ({"userId": "u"}, "event is required"),
        ({"userId": "u", "event": "a", "name": "b"}, "event and name"),
        (
            {"userId": "u", "event": "a", "properties": {}, "eventProperties": {"x": 1}},
            "properties and eventProperties",
        ),
        ({"userId": "u", "name": ""}, "name"),
        ({"userId": "u", "name": "e", "eventProperties": []}, "eventProperties"),
    ],
)
async def test_an_event_that_is_named_wrongly_is_refused(
    gateway: FakeGateway, body: dict[str, Any], problem: str
) -> None:
    answer = await gateway.http.post("/v1/events", json=body, headers=bearer(INGEST_KEY))
    assert answer.status_code == 400
    assert problem in answer.json()["error"]["message"]
    assert gateway.bus.questions == []


async def test_both_names_may_say_the_same(gateway: FakeGateway) -> None:
    gateway.bus.answer(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    event = {"event": "a", "name": "a", "userId": "u"}
    answer = await gateway.http.post("/v1/events", json=event, headers=bearer(INGEST_KEY))
    assert answer.status_code == 202
