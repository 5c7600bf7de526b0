"""Events reported to Hogsend itself: by `POST /v1/events`, and as engagement on the bus."""

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


async def test_an_event_is_stored_and_published_before_the_answer(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica():
        answer = await report(
            gateway,
            event="feature.used",
            userId="u_1",
            properties={"plan": "pro"},
            contactProperties={"tier": "gold"},
            value=149.99,
            currency="gbp",
            timestamp="2026-01-02T03:04:05Z",
        )
        assert answer.status_code == 202
        told = answer.json()
        assert told == {"stored": True, "exits": [], "contactKey": "u_1", "id": told["id"]}
        (event,) = await driver.events(1)
    assert (event.id, event.source, event.event) == (told["id"], "hogsend", "feature.used")
    assert event.properties == {"plan": "pro", "value": 149.99, "currency": "gbp"}
    assert event.occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    (contact,) = await driver.contacts()
    assert (contact["properties"], contact["source"]) == ('{"tier": "gold"}', "hogsend")


async def test_case_151_a_key_that_was_seen_before_is_stored_once(
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
        assert [one.json()["stored"] for one in (first, again, by_header)] == [True, False, False]
        (event,) = await driver.events(1)
    assert event.id == "k-1"
    assert await driver.count("events") == 1


async def test_one_key_for_several_addresses_is_an_event_of_each(
    gateway: Gateway, driver: Driver
) -> None:
    """Also an answer with another person's contact key would be passed on to PostHog."""
    async with driver.replica():
        answers = [
            (await report(gateway, event="e", email=email, idempotencyKey="k-1")).json()
            for email in ("a@b.com", "b@b.com", "A@b.com")
        ]
        assert [one["stored"] for one in answers] == [True, True, False]
        of_one, of_other, again = (one["contactKey"] for one in answers)
        assert of_one == again != of_other
        assert len(await driver.events(2)) == 2


async def test_one_key_at_once_from_everywhere_is_stored_once(
    gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica(), driver.replica():
        answers = await asyncio.gather(
            *(report(gateway, event="e", userId="u_1", idempotencyKey="k-1") for _ in range(20))
        )
        assert sorted(one.json()["stored"] for one in answers) == [False] * 19 + [True]
        assert len(await driver.events(1)) == 1


async def test_case_153_an_email_alone_makes_a_contact_that_its_row_id_leads_to(
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


async def test_bad_input_is_400_and_changes_nothing(gateway: Gateway, driver: Driver) -> None:
    async with driver.replica():
        for body in BAD_INPUT:
            answer = await report(gateway, **body)
            assert answer.status_code == 400, body
            assert answer.json()["error"]
        large = await report(gateway, event="e", userId="u", properties={"a": "x" * 5_000_000})
        assert large.status_code == 413
    assert await driver.count("events") == 0
    assert await driver.count("contacts") == 0


async def test_two_different_keys_are_400(gateway: Gateway) -> None:
    answer = await gateway.http.post(
        URL,
        json={"event": "e", "userId": "u", "idempotencyKey": "a"},
        headers={"Authorization": f"Bearer {INGEST_KEY}", "Idempotency-Key": "b"},
    )
    assert answer.status_code == 400
    assert "differ" in answer.text


async def test_only_an_ingest_or_admin_key_may_report(gateway: Gateway) -> None:
    for key, status in (("", 401), ("k-wrong", 401), (READ_KEY, 403), (INGEST_KEY, 503)):
        assert (await report(gateway, key, event="e", userId="u")).status_code == status, key
    for path in ("events", "capabilities", "deadletters", "provider-credentials/posthog"):
        answer = await gateway.http.get(
            f"/v1/admin/{path}", headers={"Authorization": f"Bearer {INGEST_KEY}"}
        )
        assert answer.status_code == 403, path


async def test_without_ingest_or_postgresql_it_is_a_typed_503(
    gateway: Gateway, driver: Driver
) -> None:
    away = await report(gateway, event="e", userId="u")
    assert (away.status_code, away.json()["code"]) == (503, "unavailable")
    async with driver.replica():
        with patch.object(
            Publisher, "publish", side_effect=Unavailable("JetStream is not available")
        ):
            cut_off = await report(gateway, event="e", userId="u", idempotencyKey="k-1")
        assert (cut_off.status_code, cut_off.headers["Retry-After"]) == (503, "5")
        # The row is there already; the repetition sees to the rest.
        again = await report(gateway, event="e", userId="u", idempotencyKey="k-1")
        assert (again.status_code, again.json()["stored"]) == (202, False)
        assert len(await driver.events(1)) == 1


async def test_an_event_of_the_catalog_reaches_destinations_as_well(
    gateway: Gateway, driver: Driver
) -> None:
    js = driver.operator.js
    await js.add_consumer(StreamName.ENGAGEMENT, ConsumerConfig(durable_name="looks"))
    looking = await js.pull_subscribe_bind(consumer="looks", stream=StreamName.ENGAGEMENT)
    async with driver.replica():
        told = await report(gateway, event="email.opened", email="a@b.com", properties={"n": 1})
        (message,) = await looking.fetch(1, timeout=PATIENCE_SECONDS)
        await message.ack()
        key = told.json()["contactKey"]
        assert message.subject == "hogsend.engagement.email.opened"
        assert b'"userId":"%s"' % key.encode() in message.data
        assert b'"to":"a@b.com"' in message.data
        # Ingest consumes its own engagement, as a known event.
        assert len(await driver.events(1)) == 1
    assert await driver.count("events") == 1


async def test_engagement_is_recorded_as_an_event_of_hogsend(
    servers: Servers, driver: Driver
) -> None:
    async with client(servers, User.APP) as member, driver.replica():
        await member.engagement.report("email.opened", {"userId": "u_1", "to": "x@y.z"}, id="m-1")
        await member.engagement.report("email.opened", {"userId": "u_1", "to": "x@y.z"}, id="m-1")
        # Mail providers have one id for a mail to several people.
        for to in ("a@b.com", "A@b.com", "c@b.com"):
            await member.engagement.report("email.sent", {"userId": None, "to": to}, id="m-2")
        # From any other NATS client: only the data is needed.
        await member.connection.publish(
            "hogsend.engagement.bucket.entered",
            b'{"data":{"userId":"u_1","bucketId":"b"}}',
            {"Nats-Msg-Id": "m-3"},
        )
        events = await driver.events(4)
    assert sorted((one.id.partition(":")[0], one.event, one.email) for one in events) == [
        ("m-1", "email.opened", None),
        ("m-2", "email.sent", "a@b.com"),
        ("m-2", "email.sent", "c@b.com"),
        ("m-3", "bucket.entered", None),
    ]
    assert {one.source for one in events} == {"hogsend"}
    contacts = await driver.contacts()
    # Where a mail went says nothing about whose address it is.
    assert {(one["external_id"], one["email"]) for one in contacts} == {
        ("u_1", None),
        (None, "a@b.com"),
        (None, "c@b.com"),
    }


async def test_case_106_a_time_zone_is_filled_only_while_there_is_none(
    gateway: Gateway, servers: Servers, driver: Driver
) -> None:
    async with driver.replica(), connected(servers, User.ANALYTICS) as analytics:

        async def known(user_id: str) -> Contact:
            return await analytics.request(INGEST_CONTACT, ContactRef(user_id=user_id))

        async def fill(user_id: str, zone: str) -> None:
            wanted = FillTimezone(user_id=user_id, timezone=zone)
            await analytics.request(INGEST_FILL_TIMEZONE, wanted)

        await report(
            gateway, event="e", userId="u_1", email="a@b.com", contactProperties={"plan": "pro"}
        )
        found = await known("u_1")
        assert (found.contact_key, found.email, found.timezone) == ("u_1", "a@b.com", None)
        assert found.properties == {"plan": "pro"}
        await fill("u_1", "Europe/London")
        await fill("u_1", "Asia/Tokyo")
        await fill("unknown", "Asia/Tokyo")
        (row,) = await driver.contacts()
        for key in ("u_1", "a@b.com", str(row["id"])):
            assert (await known(key)).timezone == "Europe/London"
        assert await known("unknown") == Contact()
        # Whatever is learned later leaves it alone, a merge takes it along.
        await report(gateway, event="e", userId="u_1", contactProperties={"plan": "free"})
        assert (await known("u_1")).timezone == "Europe/London"


async def test_the_first_of_two_who_fill_a_time_zone_at_once_wins(
    gateway: Gateway, servers: Servers, driver: Driver
) -> None:
    async with driver.replica(), connected(servers, User.ANALYTICS) as analytics:
        await report(gateway, event="e", userId="u_1")
        first = await asyncpg.connect(driver.database_url)
        async with first.transaction():
            await first.execute("UPDATE ingest.contacts SET timezone = 'Europe/London'")
            # It finds none, and waits for the row.
            wanted = FillTimezone(user_id="u_1", timezone="Asia/Tokyo")
            second = asyncio.create_task(
                analytics.request(INGEST_FILL_TIMEZONE, wanted, deadline=PATIENCE_SECONDS)
            )
            await waiting_for_a_lock(driver.rows, "UPDATE contacts")
        await second
        await first.close()
        (row,) = await driver.contacts()
    assert row["timezone"] == "Europe/London"


async def test_a_merge_keeps_the_time_zone_that_is_known(
    gateway: Gateway, servers: Servers, driver: Driver
) -> None:
    async with driver.replica(), connected(servers, User.ANALYTICS) as analytics:
        await report(gateway, event="e", email="a@b.com")
        wanted = FillTimezone(user_id="a@b.com", timezone="Asia/Tokyo")
        await analytics.request(INGEST_FILL_TIMEZONE, wanted)
        await report(gateway, event="e", userId="u_1")
        await report(gateway, event="e", userId="u_1", email="a@b.com")
        found = await analytics.request(INGEST_CONTACT, ContactRef(user_id="u_1"))
    assert len(await driver.contacts()) == 1
    assert found.timezone == "Asia/Tokyo"


async def test_text_and_times_that_cannot_be_stored_are_mended(
    gateway: Gateway, driver: Driver
) -> None:
    odd = (
        b'{"event":"e","email":"Mara@Example.com","timestamp":"%s",'
        b'"properties":{"a":"\\u0000 \\ud83d"}}'
    )
    async with driver.replica():
        for time in (b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59-05:00"):
            answer = await gateway.http.post(
                URL, content=odd % time, headers={"Authorization": f"Bearer {INGEST_KEY}"}
            )
            assert answer.status_code == 202, answer.text
        first, second = await driver.events(2)
    for event in (first, second):
        assert event.properties == {"a": "\ufffd \ufffd"}
        assert event.email == "mara@example.com"
        assert event.occurred_at == event.received_at
    assert await driver.rows.fetchval(
        "SELECT bool_and(occurred_at = received_at) FROM ingest.events"
    )
    assert await driver.count("contacts") == 1
