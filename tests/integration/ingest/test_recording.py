"""Events that are reported to Hogsend: by `POST /v1/events`, and as engagement on the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest
from nats.js.api import ConsumerConfig

from hogsend.contract.contacts import (
    INGEST_CONTACT,
    INGEST_FILL_TIMEZONE,
    Contact,
    ContactRef,
    FillTimezone,
)
from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.transport.publisher import Publisher
from tests.integration import harness
from tests.integration.harness import ADMIN_KEY, READ_KEY, Gateway, client, connected
from tests.integration.ingest.driver import Driver
from tests.postgres_locks import waiting_for_a_lock
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS

INGEST_KEY = "k-ingest"
URL = "/v1/events"


@pytest.fixture
async def gateway(servers: Servers, driver: Driver, tmp_path: Path) -> AsyncIterator[Gateway]:
    keys = {"ingest_api_key": INGEST_KEY}
    async with harness.gateway_service(
        servers, tmp_path, settings=keys, wait_for_secret=False
    ) as running:
        yield running


async def report(gateway: Gateway, key: str = INGEST_KEY, /, **body: Any) -> Any:
    return await gateway.http.post(URL, json=body, headers={"Authorization": f"Bearer {key}"})


async def test_a_reported_event_is_stored_and_published_before_the_response(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica():
        response = await report(
            gateway,
            event="feature.used",
            userId="u_1",
            properties={"plan": "pro"},
            contactProperties={"tier": "gold"},
            value=149.99,
            currency="gbp",
            timestamp="2026-01-02T03:04:05Z",
        )
        assert response.status_code == 202
        body = response.json()
        assert body == {"stored": True, "exits": [], "contactKey": "u_1", "id": body["id"]}
        (event,) = await driver.events(1)
    assert (event.id, event.source, event.event) == (body["id"], "hogsend", "feature.used")
    assert event.properties == {"plan": "pro", "value": 149.99, "currency": "gbp"}
    assert event.occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    (contact,) = await driver.contacts()
    assert (contact["properties"], contact["source"]) == ('{"tier": "gold"}', "hogsend")


async def test_case_151_an_event_with_a_repeated_idempotency_key_is_stored_once(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica():
        first = await report(gateway, event="e", userId="u_1", idempotencyKey="k-1")
        again = await report(gateway, event="e", userId="u_1", idempotencyKey="k-1")
        by_header = await gateway.http.post(
            URL,
            json={"event": "e", "userId": "u_1"},
            headers={"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "k-1"},
        )
        assert [response.json()["stored"] for response in (first, again, by_header)] == [
            *(True, False, False)
        ]
        (event,) = await driver.events(1)
    assert event.id == "k-1"
    assert await driver.count("events") == 1


async def test_one_idempotency_key_for_several_emails_stores_an_event_for_each(
    gateway: Gateway, driver: Driver
) -> None:
    """A response with another person's contact key would be passed on to PostHog."""
    async with driver.replica():
        responses = [
            (await report(gateway, event="e", email=email, idempotencyKey="k-1")).json()
            for email in ("a@b.com", "b@b.com", "A@b.com")
        ]
        assert [response["stored"] for response in responses] == [True, True, False]
        first, second, again = (response["contactKey"] for response in responses)
        assert first == again != second
        assert len(await driver.events(2)) == 2


async def test_concurrent_reports_with_one_idempotency_key_are_stored_once(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica(), driver.replica():
        responses = await asyncio.gather(
            *(report(gateway, event="e", userId="u_1", idempotencyKey="k-1") for _ in range(20))
        )
        assert sorted(response.json()["stored"] for response in responses) == [False] * 19 + [True]
        assert len(await driver.events(1)) == 1


async def test_case_153_a_contact_with_only_an_email_is_identified_by_its_row_id(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica():
        key = (await report(gateway, event="e", email="a@b.com")).json()["contactKey"]
        (contact,) = await driver.contacts()
        assert key == str(contact["id"])
        again = await report(gateway, event="e", userId=key)
        assert again.json()["contactKey"] == key
    assert len(await driver.contacts()) == 1


BAD_INPUT: list[dict[str, Any]] = [
    {},
    {"event": "e"},
    {"event": "", "userId": "u"},
    {"event": "e", "userId": " "},
    {"event": "e", "userId": "u" * 201},
    {"event": "e", "email": "no address"},
    {"event": "e", "userId": "u", "properties": []},
    {"event": "e", "userId": "u", "timestamp": "2026-01-01T00:00:00"},
    {"event": "e", "userId": "u", "timestamp": "yesterday"},
    {"event": "e", "userId": "u", "timestamp": ""},
    {"event": "e", "userId": "u", "timestamp": "2026-02-30T00:00:00Z"},
    {"event": "e", "userId": "u", "timestamp": 5},
    {"event": "e", "userId": "u", "idempotencyKey": "with space"},
    {"event": "e", "userId": "u", "idempotencyKey": "x" * 129},
    {"event": "e", "userId": "u", "currency": "money"},
    {"event": "e", "email": "grace@example.com\n"},
]


async def test_an_invalid_report_is_400_and_stores_nothing(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica():
        for body in BAD_INPUT:
            response = await report(gateway, **body)
            assert response.status_code == 400, body
            assert response.json()["error"]
        large = await report(gateway, event="e", userId="u", properties={"a": "x" * 5_000_000})
        assert large.status_code == 413
    assert await driver.count("events") == 0
    assert await driver.count("contacts") == 0


async def test_two_different_idempotency_keys_in_one_report_are_400(gateway: Gateway) -> None:
    response = await gateway.http.post(
        URL,
        json={"event": "e", "userId": "u", "idempotencyKey": "a"},
        headers={"Authorization": f"Bearer {INGEST_KEY}", "Idempotency-Key": "b"},
    )
    assert response.status_code == 400
    assert "differ" in response.text


async def test_a_report_requires_an_ingest_or_admin_key_and_an_ingest_key_permits_no_other_route(
    gateway: Gateway,
) -> None:
    for key, status in (("", 401), ("k-wrong", 401), (READ_KEY, 403), (INGEST_KEY, 503)):
        assert (await report(gateway, key, event="e", userId="u")).status_code == status, key
    for path in ("events", "capabilities", "deadletters", "provider-credentials/posthog"):
        response = await gateway.http.get(
            f"/v1/admin/{path}", headers={"Authorization": f"Bearer {INGEST_KEY}"}
        )
        assert response.status_code == 403, path


async def test_a_report_without_ingest_or_jetstream_is_a_typed_503(
    gateway: Gateway, driver: Driver
) -> None:
    without_ingest = await report(gateway, event="e", userId="u")
    assert (without_ingest.status_code, without_ingest.json()["code"]) == (503, "unavailable")
    async with driver.replica():
        with patch.object(
            Publisher, "publish", side_effect=Unavailable("JetStream is not available")
        ):
            without_jetstream = await report(gateway, event="e", userId="u", idempotencyKey="k-1")
        assert (without_jetstream.status_code, without_jetstream.headers["Retry-After"]) == (
            503,
            "5",
        )
        # The event is stored already; the repeated report publishes it.
        again = await report(gateway, event="e", userId="u", idempotencyKey="k-1")
        assert (again.status_code, again.json()["stored"]) == (202, False)
        assert len(await driver.events(1)) == 1


async def test_an_event_of_the_engagement_catalog_is_also_published_for_destinations(
    gateway: Gateway, driver: Driver
) -> None:
    js = driver.operator.js
    await js.add_consumer(StreamName.ENGAGEMENT, ConsumerConfig(durable_name="reader"))
    reader = await js.pull_subscribe_bind(consumer="reader", stream=StreamName.ENGAGEMENT)
    async with driver.replica():
        response = await report(gateway, event="email.opened", email="a@b.com", properties={"n": 1})
        (message,) = await reader.fetch(1, timeout=PATIENCE_SECONDS)
        await message.ack()
        key = response.json()["contactKey"]
        assert message.subject == "hogsend.engagement.email.opened"
        assert b'"userId":"%s"' % key.encode() in message.data
        assert b'"to":"a@b.com"' in message.data
        # Ingest consumes the engagement that it published, and does not store it again.
        assert len(await driver.events(1)) == 1
    assert await driver.count("events") == 1


async def test_reported_engagement_is_stored_and_published_as_an_event_of_hogsend(
    servers: Servers, driver: Driver
) -> None:
    async with client(servers, User.APP) as member, driver.replica():
        await member.engagement.report("email.opened", {"userId": "u_1", "to": "x@y.z"}, id="m-1")
        await member.engagement.report("email.opened", {"userId": "u_1", "to": "x@y.z"}, id="m-1")
        # Mail providers use one id for a mail to several people.
        for to in ("a@b.com", "A@b.com", "c@b.com"):
            await member.engagement.report("email.sent", {"userId": None, "to": to}, id="m-2")
        # Other NATS clients need to publish only the data.
        await member.connection.publish(
            "hogsend.engagement.bucket.entered",
            b'{"data":{"userId":"u_1","bucketId":"b"}}',
            {"Nats-Msg-Id": "m-3"},
        )
        events = await driver.events(4)
    assert sorted((event.id.partition(":")[0], event.event, event.email) for event in events) == [
        ("m-1", "email.opened", None),
        ("m-2", "email.sent", "a@b.com"),
        ("m-2", "email.sent", "c@b.com"),
        ("m-3", "bucket.entered", None),
    ]
    assert {event.source for event in events} == {"hogsend"}
    contacts = await driver.contacts()
    # The recipient's address of a mail is not necessarily the person's own.
    assert {(contact["external_id"], contact["email"]) for contact in contacts} == {
        ("u_1", None),
        (None, "a@b.com"),
        (None, "c@b.com"),
    }


async def test_case_106_a_time_zone_is_filled_only_for_a_contact_without_one(
    gateway: Gateway, servers: Servers, driver: Driver
) -> None:
    async with driver.replica(), connected(servers, User.ANALYTICS) as analytics:

        async def contact_of(user_id: str) -> Contact:
            return await analytics.request(INGEST_CONTACT, ContactRef(user_id=user_id))

        async def fill(user_id: str, zone: str) -> None:
            request = FillTimezone(user_id=user_id, timezone=zone)
            await analytics.request(INGEST_FILL_TIMEZONE, request)

        await report(
            gateway, event="e", userId="u_1", email="a@b.com", contactProperties={"plan": "pro"}
        )
        contact = await contact_of("u_1")
        assert (contact.contact_key, contact.email, contact.timezone) == ("u_1", "a@b.com", None)
        assert contact.properties == {"plan": "pro"}
        await fill("u_1", "Europe/London")
        await fill("u_1", "Asia/Tokyo")
        await fill("unknown", "Asia/Tokyo")
        (row,) = await driver.contacts()
        for key in ("u_1", "a@b.com", str(row["id"])):
            assert (await contact_of(key)).timezone == "Europe/London"
        assert await contact_of("unknown") == Contact()
        # Later reports keep the time zone.
        await report(gateway, event="e", userId="u_1", contactProperties={"plan": "free"})
        assert (await contact_of("u_1")).timezone == "Europe/London"


async def test_the_first_of_two_concurrent_requests_fills_the_time_zone(
    gateway: Gateway, servers: Servers, driver: Driver
) -> None:
    async with driver.replica(), connected(servers, User.ANALYTICS) as analytics:
        await report(gateway, event="e", userId="u_1")
        first = await asyncpg.connect(driver.database_url)
        async with first.transaction():
            await first.execute("UPDATE ingest.contacts SET timezone = 'Europe/London'")
            # The second request reads no time zone, and waits for the row.
            request = FillTimezone(user_id="u_1", timezone="Asia/Tokyo")
            second = asyncio.create_task(
                analytics.request(INGEST_FILL_TIMEZONE, request, deadline=PATIENCE_SECONDS)
            )
            await waiting_for_a_lock(driver.rows, "UPDATE contacts")
        await second
        await first.close()
        (row,) = await driver.contacts()
    assert row["timezone"] == "Europe/London"


async def test_a_merge_keeps_the_time_zone_of_either_contact(
    gateway: Gateway, servers: Servers, driver: Driver
) -> None:
    async with driver.replica(), connected(servers, User.ANALYTICS) as analytics:
        await report(gateway, event="e", email="a@b.com")
        request = FillTimezone(user_id="a@b.com", timezone="Asia/Tokyo")
        await analytics.request(INGEST_FILL_TIMEZONE, request)
        await report(gateway, event="e", userId="u_1")
        await report(gateway, event="e", userId="u_1", email="a@b.com")
        contact = await analytics.request(INGEST_CONTACT, ContactRef(user_id="u_1"))
    assert len(await driver.contacts()) == 1
    assert contact.timezone == "Asia/Tokyo"


async def test_text_and_times_that_postgresql_cannot_store_are_replaced(
    gateway: Gateway, driver: Driver
) -> None:
    odd = (
        b'{"event":"e","email":"Mara@Example.com","timestamp":"%s",'
        b'"properties":{"a":"\\u0000 \\ud83d"}}'
    )
    async with driver.replica():
        for time in (b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59-05:00"):
            response = await gateway.http.post(
                URL, content=odd % time, headers={"Authorization": f"Bearer {INGEST_KEY}"}
            )
            assert response.status_code == 202, response.text
        first, second = await driver.events(2)
    for event in (first, second):
        assert event.properties == {"a": "\ufffd \ufffd"}
        assert event.email == "mara@example.com"
        assert event.occurred_at == event.received_at
    assert await driver.rows.fetchval(
        "SELECT bool_and(occurred_at = received_at) FROM ingest.events"
    )
    assert await driver.count("contacts") == 1
