"""Requests of upstream's command (`packages/cli`) and client (`packages/client`), both 0.67."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from hogsend.contract.contacts import INGEST_ERASE, ContactRecord, EraseContact, Erasure
from hogsend.contract.destinations import (
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    DestinationPage,
    OutboundDestination,
)
from hogsend.contract.directory import (
    INGEST_LIST_CONTACTS,
    INGEST_OVERVIEW,
    INGEST_RECORD_CONTACT,
    INGEST_TIMELINE,
    ContactPage,
    ContactRecorded,
    ListContacts,
    ListTimeline,
    Overview,
    RecordContact,
    Timeline,
    TimelineEntry,
)
from hogsend.contract.errors import NotFound
from hogsend.contract.events import (
    INGEST_EVENTS,
    INGEST_RECORD,
    EventPage,
    ListEvents,
    Recorded,
    RecordEvent,
)
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from tests.unit.gateway.fakes import ADMIN_KEY, INGEST_KEY, READ_KEY, FakeGateway, bearer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS, WEBHOOKS = "/v1/admin/events", "/v1/admin/webhooks"
CONTACTS = "/v1/admin/contacts"
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
    """Return whether `shown` has the fields of an endpoint that both clients read."""
    return (
        {"id", "url", "description", "eventTypes", "secretPrefix", "kind", "config"} <= set(shown)
        and {"organizationId", "lastDeliveryAt", "createdAt", "updatedAt"} <= set(shown)
        and shown["status"] == status
    )


async def test_webhooks_list_reads_endpoints_with_a_status(gateway: FakeGateway) -> None:
    page = DestinationPage(
        webhooks=[destination(), destination(disabled=True)], total=2, limit=50, offset=0
    )
    gateway.bus.reply_with(ANALYTICS_LIST_DESTINATIONS, page)
    response = await gateway.http.get(f"{WEBHOOKS}?includeDisabled=true", headers=bearer())
    listed = response.json()
    assert response.status_code == 200
    assert is_endpoint(listed["endpoints"][0], "enabled")
    assert is_endpoint(listed["endpoints"][1], "disabled")
    assert listed["endpoints"] == listed["webhooks"]
    assert (listed["total"], listed["limit"], listed["offset"]) == (2, 50, 0)


async def test_every_response_with_one_endpoint_has_a_status(gateway: FakeGateway) -> None:
    for endpoint in (
        ANALYTICS_CREATE_DESTINATION,
        ANALYTICS_GET_DESTINATION,
        ANALYTICS_CHANGE_DESTINATION,
    ):
        gateway.bus.reply_with(endpoint, destination(disabled=True))
    new = {"url": "https://x.example/hook", "eventTypes": ["email.sent"], "kind": "posthog"}
    changes = {"disabled": True, "kind": "posthog"}
    responses = [
        await gateway.http.post(WEBHOOKS, json=new, headers=bearer()),
        await gateway.http.get(f"{WEBHOOKS}/{ID}", headers=bearer()),
        await gateway.http.patch(f"{WEBHOOKS}/{ID}", json=changes, headers=bearer()),
        await gateway.http.post(f"{WEBHOOKS}/{ID}/pause", headers=bearer()),
        await gateway.http.post(f"{WEBHOOKS}/{ID}/resume", headers=bearer()),
    ]
    assert [response.status_code for response in responses] == [201, 200, 200, 200, 200]
    assert all(is_endpoint(response.json(), "disabled") for response in responses)


@pytest.mark.parametrize("url", ["https://x.example/hook", "HTTP://x.example/hook"])
async def test_a_webhook_with_an_http_url_and_no_kind_is_refused(
    gateway: FakeGateway, url: str
) -> None:
    """`webhooks create` and `webhooks.create` send no kind, and mean an HTTP endpoint."""
    gateway.bus.reply_with(ANALYTICS_CREATE_DESTINATION, destination())
    new = {"url": url, "eventTypes": ["email.sent"]}
    response = await gateway.http.post(WEBHOOKS, json=new, headers=bearer())
    assert response.status_code == 400
    # The command prints `error` if it is a string.
    assert "client.events" in response.json()["error"]
    assert gateway.bus.sent == []

    sentinel = {**new, "url": "posthog://capture"}
    response = await gateway.http.post(WEBHOOKS, json=sentinel, headers=bearer())
    assert response.status_code == 201


async def test_rotating_a_secret_is_refused_with_a_text_that_the_command_prints(
    gateway: FakeGateway,
) -> None:
    """The command prints `error` if it is a string, and otherwise the status alone."""
    gateway.bus.reply_with(ANALYTICS_GET_DESTINATION, destination())
    rotation = f"{WEBHOOKS}/{ID}/rotate-secret"
    response = await gateway.http.post(rotation, json={}, headers=bearer())
    assert (response.status_code, "is not signed" in response.json()["error"]) == (400, True)
    gateway.bus.reply_with(ANALYTICS_GET_DESTINATION, NotFound("Webhook endpoint not found"))
    assert (await gateway.http.post(rotation, json={}, headers=bearer())).status_code == 404


async def test_a_destinations_kind_cannot_change(gateway: FakeGateway) -> None:
    response = await gateway.http.patch(
        f"{WEBHOOKS}/{ID}", json={"kind": "webhook"}, headers=bearer()
    )
    assert response.status_code == 400
    assert gateway.bus.sent == []


async def test_events_are_filtered_by_user_event_and_time_of_occurrence(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(INGEST_EVENTS, EventPage(events=[], total=0, limit=10, offset=0))
    response = await gateway.http.get(
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
    assert response.status_code == 200
    assert gateway.bus.sent[0].message == ListEvents(
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
async def test_an_invalid_time_or_unknown_filter_is_400(gateway: FakeGateway, query: str) -> None:
    response = await gateway.http.get(f"{EVENTS}?{query}", headers=bearer())
    assert response.status_code == 400
    assert response.json()["error"]["name"] == "ZodError"
    assert gateway.bus.sent == []


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
    response = await gateway.http.request(method, f"{url}?dryrun=1", json=body, headers=bearer())
    assert response.status_code == 400
    assert "unknown query key 'dryrun'" in response.json()["error"]["message"]
    assert gateway.bus.sent == []


@pytest.mark.parametrize(
    ("method", "url", "query"),
    [
        ("GET", EVENTS, "limit=5&limit=6"),
        ("GET", EVENTS, "event=a&userId=u&event=a"),
        ("GET", "/v1/admin/deadletters", "stream=EVENTS&stream=PERSONS"),
        ("GET", "/v1/contacts/find", "email=a@x.example&email=b@x.example"),
        ("DELETE", f"/v1/admin/contacts/{ID}", "posthog=true&posthog=false"),
        ("POST", "/v1/admin/analytics/provision-loop", "placeholder=true&placeholder=false"),
    ],
)
async def test_a_query_key_that_is_given_more_than_once_is_refused(
    gateway: FakeGateway, method: str, url: str, query: str
) -> None:
    response = await gateway.http.request(method, f"{url}?{query}", headers=bearer())
    assert response.status_code == 400
    assert "is given more than once" in response.json()["error"]["message"]
    assert gateway.bus.sent == []


@pytest.mark.parametrize("query", ["x=1", "x=1&x=2"])
@pytest.mark.parametrize("path", ["provision-loop", "provision-loop/", "provision%2Dloop"])
async def test_provisioning_ignores_other_query_keys(
    gateway: FakeGateway, path: str, query: str
) -> None:
    response = await gateway.http.post(f"/v1/admin/analytics/{path}?{query}", headers=bearer())
    assert response.status_code == 503
    assert gateway.bus.sent != []


@pytest.mark.parametrize("keys", [("a", "b"), ("a", "a")])
async def test_an_idempotency_key_that_is_given_more_than_once_is_refused(
    gateway: FakeGateway, keys: tuple[str, str]
) -> None:
    headers = [*bearer().items(), *(("Idempotency-Key", key) for key in keys)]
    response = await gateway.http.post(
        "/v1/events", json={"event": "e", "userId": "u"}, headers=headers
    )
    assert response.status_code == 400
    assert response.json() == {"error": "The header idempotency-key is given more than once"}
    assert gateway.bus.sent == []


async def test_a_request_without_a_key_is_401_before_its_query_is_checked(
    gateway: FakeGateway,
) -> None:
    assert (await gateway.http.get(f"{EVENTS}?nope=1")).status_code == 401


async def test_probes_and_webhooks_may_have_any_query(gateway: FakeGateway) -> None:
    assert (await gateway.http.get("/livez?probe=1")).status_code == 200
    assert (await gateway.http.post("/v1/webhooks/posthog?x=1")).status_code == 401


async def test_events_send_may_use_name_and_event_properties(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    response = await gateway.http.post(
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
    assert response.status_code == 202
    # The command counts and filters `exits`.
    assert (response.json()["stored"], response.json()["exits"]) == (True, [])
    assert "listsError" not in response.json()
    request = gateway.bus.sent[0].message
    assert isinstance(request, RecordEvent)
    assert (request.event, request.properties) == ("signup", {"plan": "pro"})
    assert request.contact_properties == {"tier": 1}


async def test_an_event_with_lists_is_stored_and_the_response_has_a_lists_error(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    event = {"name": "signup", "userId": "u", "lists": {"news": True}}
    response = await gateway.http.post("/v1/events", json=event, headers=bearer(INGEST_KEY))
    assert response.status_code == 202
    assert "no mailing lists" in response.json()["listsError"]


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
async def test_an_event_with_missing_or_contradicting_fields_is_400(
    gateway: FakeGateway, body: dict[str, Any], problem: str
) -> None:
    response = await gateway.http.post("/v1/events", json=body, headers=bearer(INGEST_KEY))
    assert response.status_code == 400
    assert problem in response.json()["error"]["message"]
    assert gateway.bus.sent == []


async def test_event_and_name_may_both_be_sent_if_they_are_equal(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    event = {"event": "a", "name": "a", "userId": "u"}
    response = await gateway.http.post("/v1/events", json=event, headers=bearer(INGEST_KEY))
    assert response.status_code == 202


def contact(**fields: Any) -> ContactRecord:
    defaults = {
        "id": ID,
        "contact_key": "u_42",
        "external_id": "u_42",
        "email": "ada@example.com",
        "timezone": None,
        "properties": {"plan": "pro"},
        "first_seen_at": NOW,
        "last_seen_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return ContactRecord(**(defaults | fields))


def page(*contacts: ContactRecord) -> ContactPage:
    return ContactPage(contacts=list(contacts), total=len(contacts), limit=50, offset=0)


def is_contact(shown: dict[str, Any]) -> bool:
    """Return whether `shown` has the fields of a contact that both clients read."""
    return {
        *("id", "externalId", "email", "properties"),
        *("firstSeenAt", "lastSeenAt", "createdAt", "updatedAt"),
    } <= set(shown)


async def test_contacts_list_reads_a_page(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_LIST_CONTACTS, page(contact(), contact(external_id=None)))
    response = await gateway.http.get(
        f"{CONTACTS}?search=acme%40&limit=2&offset=4", headers=bearer(READ_KEY)
    )
    listed = response.json()
    assert response.status_code == 200
    assert [is_contact(shown) for shown in listed["contacts"]] == [True, True]
    assert (listed["total"], listed["limit"], listed["offset"]) == (2, 50, 0)
    assert gateway.bus.sent[0].message == ListContacts(search="acme@", limit=2, offset=4)


async def test_contacts_cannot_be_filtered_by_key_and_search_at_once(gateway: FakeGateway) -> None:
    response = await gateway.http.get(f"{CONTACTS}?key=u&search=u", headers=bearer())
    assert response.status_code == 400
    assert gateway.bus.sent == []


async def test_contacts_get_reads_a_contact_and_preferences(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_LIST_CONTACTS, page(contact()))
    response = await gateway.http.get(f"{CONTACTS}/ada%40example.com", headers=bearer())
    assert response.status_code == 200
    assert is_contact(response.json()["contact"])
    assert response.json()["preferences"] is None
    assert gateway.bus.sent[0].message == ListContacts(key="ada@example.com", limit=1)


async def test_contacts_get_of_an_unknown_contact_is_404_with_a_hint(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_LIST_CONTACTS, page())
    response = await gateway.http.get(f"{CONTACTS}/u_9", headers=bearer())
    assert response.status_code == 404
    assert "no contact 'u_9': give a user id" in response.json()["error"]


async def test_contacts_timeline_reads_entries(gateway: FakeGateway) -> None:
    entry = TimelineEntry(type="email", timestamp=NOW, data={"subject": "Hi", "status": "sent"})
    gateway.bus.reply_with(INGEST_TIMELINE, Timeline(timeline=[entry], total=1, limit=50, offset=0))
    response = await gateway.http.get(
        f"{CONTACTS}/u_42/timeline?type=email&limit=5&offset=0", headers=bearer()
    )
    assert response.status_code == 200
    (shown,) = response.json()["timeline"]
    assert (shown["type"], shown["data"]["status"]) == ("email", "sent")
    assert gateway.bus.sent[0].message == ListTimeline(key="u_42", type="email", limit=5)
    wrong = await gateway.http.get(f"{CONTACTS}/u_42/timeline?type=sms", headers=bearer())
    assert wrong.status_code == 400


async def test_contacts_upsert_reads_whether_the_contact_was_created_or_linked(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(
        INGEST_RECORD_CONTACT, ContactRecorded(id=ID, created=True, linked=False)
    )
    body = {"email": "a@b.com", "userId": "u_1", "properties": {"seats": 5}}
    response = await gateway.http.put("/v1/contacts", json=body, headers=bearer(INGEST_KEY))
    assert response.status_code == 200
    assert response.json() == {"id": ID, "created": True, "linked": False}
    request = gateway.bus.sent[0].message
    assert isinstance(request, RecordContact)
    assert (request.user_id, request.email, request.properties) == ("u_1", "a@b.com", {"seats": 5})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"properties": {"a": 1}}, "userId or email"),
        ({"userId": "u", "lists": {"news": True}}, "no mailing lists"),
        ({"userId": "u", "properties": []}, "properties"),
        ({"email": "nobody"}, "email"),
        ({"userId": " "}, "userId"),
    ],
)
async def test_an_invalid_contact_is_400_and_not_stored(
    gateway: FakeGateway, body: dict[str, Any], problem: str
) -> None:
    response = await gateway.http.put("/v1/contacts", json=body, headers=bearer(INGEST_KEY))
    assert response.status_code == 400
    assert problem in response.text
    assert gateway.bus.sent == []


async def test_a_contact_too_large_for_the_bus_is_refused(gateway: FakeGateway) -> None:
    gateway.bus.payload_limit = 20_000
    body = {"userId": "u", "properties": {"text": "x" * 7_000}}
    response = await gateway.http.put("/v1/contacts", json=body, headers=bearer(INGEST_KEY))
    assert response.status_code == 413
    assert gateway.bus.sent == []


async def test_contacts_find_reads_contacts(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_LIST_CONTACTS, page(contact()))
    response = await gateway.http.get("/v1/contacts/find?email=Ada%40example.com", headers=bearer())
    assert response.status_code == 200
    assert is_contact(response.json()["contacts"][0])
    assert gateway.bus.sent[0].message == ListContacts(email="Ada@example.com")
    assert (await gateway.http.get("/v1/contacts/find", headers=bearer())).status_code == 400
    refused = await gateway.http.get("/v1/contacts/find?userId=u", headers=bearer(INGEST_KEY))
    assert refused.status_code == 403, "an ingest key may not read contacts"


async def test_contacts_delete_erases_one_person(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_LIST_CONTACTS, page(contact()))
    erasure = Erasure(
        id=ID, contact_id=ID, requested_at=NOW, finished_at=None, events=0, messages=0
    )
    gateway.bus.reply_with(INGEST_ERASE, erasure)
    response = await gateway.http.request(
        "DELETE", "/v1/contacts", json={"userId": "u_42"}, headers=bearer()
    )
    assert (response.status_code, response.json()) == (200, {"deleted": True})
    lookup, erasure_request = (request.message for request in gateway.bus.sent)
    assert lookup == ListContacts(user_id="u_42")
    assert erasure_request == EraseContact(contact_id=UUID(ID))


@pytest.mark.parametrize(
    ("body", "key", "matches", "status"),
    [
        ({}, ADMIN_KEY, page(), 400),
        ({"email": "a@b.com"}, ADMIN_KEY, page(), 404),
        ({"userId": "u", "email": "a@b.com"}, ADMIN_KEY, page(contact(), contact()), 400),
        ({"userId": "u"}, INGEST_KEY, page(contact()), 403),
        ({"userId": "u"}, READ_KEY, page(contact()), 403),
    ],
)
async def test_contacts_delete_erases_nothing_unless_exactly_one_contact_matches(
    gateway: FakeGateway, body: dict[str, str], key: str, matches: ContactPage, status: int
) -> None:
    gateway.bus.reply_with(INGEST_LIST_CONTACTS, matches)
    response = await gateway.http.request("DELETE", "/v1/contacts", json=body, headers=bearer(key))
    assert response.status_code == status
    assert INGEST_ERASE.subject not in {request.subject for request in gateway.bus.sent}


async def test_stats_reads_an_overview(gateway: FakeGateway) -> None:
    overview = Overview(
        total_contacts=12_000,
        total_contacts_estimated=True,
        events24h=7,
        emails_sent24h=1,
        emails_sent7d=2,
        emails_sent30d=4,
        emails_estimated=True,
        bounce_rate30d=0.25,
        unsubscribe_rate=0.5,
    )
    gateway.bus.reply_with(INGEST_OVERVIEW, overview)
    response = await gateway.http.get("/v1/admin/metrics/overview", headers=bearer(READ_KEY))
    assert response.status_code == 200
    assert response.json() == {
        "totalContacts": 12_000,
        "totalContactsEstimated": True,
        "events24h": 7,
        "events24hEstimated": False,
        "activeJourneys": 0,
        "emailsSent24h": 1,
        "emailsSent7d": 2,
        "emailsSent30d": 4,
        "emailsEstimated": True,
        "bounceRate30d": 0.25,
        "unsubscribeRate": 0.5,
        "unsubscribeRateEstimated": False,
    }


async def test_flags_evaluate_reads_the_flags_of_a_person(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(ANALYTICS_FLAGS, Flags(values={"beta": True, "mailer": "new"}))
    response = await gateway.http.post(
        "/v1/flags/evaluate", json={"userId": "u_42"}, headers=bearer(INGEST_KEY)
    )
    assert response.status_code == 200
    assert response.json() == {"flags": {"beta": True, "mailer": "new"}}
    assert gateway.bus.sent[0].message == GetFlags(distinct_id="u_42")


async def test_flags_by_email_are_evaluated_for_its_contact_or_else_for_the_email(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(ANALYTICS_FLAGS, Flags())
    for contacts, distinct_id in ((page(contact()), "u_42"), (page(), "ada@example.com")):
        gateway.bus.reply_with(INGEST_LIST_CONTACTS, contacts)
        response = await gateway.http.post(
            "/v1/flags/evaluate", json={"email": "ada@example.com"}, headers=bearer()
        )
        assert response.status_code == 200
        request = gateway.bus.sent[-1].message
        assert isinstance(request, GetFlags)
        assert request.distinct_id == distinct_id
        assert request.person_properties == {"email": "ada@example.com"}
    without_person = await gateway.http.post("/v1/flags/evaluate", json={}, headers=bearer())
    assert without_person.status_code == 400


@pytest.mark.parametrize(
    ("method", "url", "alternative"),
    [
        ("GET", "/v1/admin/journeys?enabled=true&limit=50", "a journey is a service of yours"),
        ("GET", "/v1/admin/journeys/welcome", "a journey is a service of yours"),
        ("PATCH", "/v1/admin/journeys/welcome", "a journey is a service of yours"),
        ("GET", "/v1/admin/blueprints?status=draft", "a journey is a service of yours"),
        ("POST", "/v1/admin/blueprints/b/promote", "a journey is a service of yours"),
        ("POST", "/v1/emails", "no emails are sent from here"),
        ("GET", "/v1/campaigns?status=sent", "no emails are sent from here"),
        ("POST", "/v1/campaigns/c/cancel", "no emails are sent from here"),
        ("GET", "/v1/admin/domain?refresh=true", "no emails are sent from here"),
        ("POST", "/v1/admin/domain/verify", "no emails are sent from here"),
        ("POST", "/v1/admin/contacts/import", "PUT /v1/contacts"),
        ("POST", "/v1/admin/suppressions/import", "no suppression list"),
        ("POST", "/v1/admin/attribution/backfill", "PostHog does"),
        ("GET", "/v1/admin/connectors/discord/connect-info", "hogsend connect posthog"),
        ("GET", "/v1/lists", "no mailing lists"),
        ("POST", "/v1/lists/news/subscribe", "no mailing lists"),
        ("GET", "/v1/admin/flags", "POST /v1/flags/evaluate"),
        ("DELETE", "/v1/admin/flags/1", "POST /v1/flags/evaluate"),
        ("PUT", "/v1/groups/company/acme/members", "client.capture"),
        ("GET", "/v1/admin/links", "link.clicked"),
        ("POST", "/v1/referrals/report", "referral.converted"),
    ],
)
async def test_a_route_that_is_not_offered_is_501_and_names_the_alternative(
    gateway: FakeGateway, method: str, url: str, alternative: str
) -> None:
    body = None if method == "GET" else {"anything": 1}
    assert (await gateway.http.request(method, url, json=body)).status_code == 401
    response = await gateway.http.request(method, url, json=body, headers=bearer())
    assert response.status_code == 501
    # The command prints `error` if it is a string.
    assert alternative in response.json()["error"]
    assert response.json()["code"] == "not_offered"
    assert gateway.bus.sent == []
