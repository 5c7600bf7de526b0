"""Engagement that destinations receive (contract 12.8), and events that are mirrored (12.9).

Tests that need no server are in `tests/unit/analytics`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from hogsend.contract import subjects
from hogsend.contract.events import Event
from hogsend.contract.headers import MESSAGE_ID
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from services.analytics.delivery import batch_delivery
from services.analytics.delivery.destination_consumers import (
    destination_subscription,
)
from services.analytics.delivery.jetstream import consumer_config
from services.analytics.destinations.durable import destination_durable
from tests.capture_recorder import Reply, capture_recorder
from tests.integration.analytics.sending import (
    KEY,
    Sending,
    bodies,
    replica,
    sending,
    streams_of_ingest,
    until_consumed,
)
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

RENAMING = {"eventNames": {"email.clicked": "email.link_clicked"}, "syncPersons": True}
TYPES = ["email.opened", "email.clicked", "contact.updated", "contact.unsubscribed"]


class Rows:
    """Writes and reads the tables of destinations."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def add(
        self,
        config: dict[str, Any],
        types: Sequence[str] = TYPES,
        *,
        disabled: bool = False,
        is_default: bool = False,
    ) -> UUID:
        id = uuid4()
        await self._connection.execute(
            "INSERT INTO analytics.destinations (id, url, kind, event_types, config, disabled,"
            " seeded) VALUES ($1, 'posthog://capture', 'posthog', $2, $3, $4, $5)",
            id,
            list(types),
            msgspec.json.encode(config).decode(),
            disabled,
            is_default,
        )
        return id

    async def history(self, id: UUID) -> list[tuple[str, str, int]]:
        rows = await self._connection.fetch(
            "SELECT event_type, status, attempts FROM analytics.deliveries"
            " WHERE destination_id = $1 ORDER BY position",
            id,
        )
        return [(row["event_type"], row["status"], row["attempts"]) for row in rows]

    async def execute(self, sql: str, *values: Any) -> None:
        await self._connection.execute(sql, *values)


@asynccontextmanager
async def tables(database_url: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(database_url)
    try:
        yield Rows(connection)
    finally:
        await connection.close()


async def ready(sent: Sending, *ids: UUID) -> None:
    """Wait until every destination has its consumer."""

    async def have_consumers() -> bool:
        consumers = await sent.operator.js.consumers_info(StreamName.ENGAGEMENT)
        return {destination_durable(id) for id in ids} <= {info.name for info in consumers}

    await eventually(have_consumers)


async def test_cases_130_to_136_engagement_reaches_its_destination(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
        tables(database_url) as rows,
    ):
        id = await rows.add(RENAMING)
        await ready(sent, id)
        report = sent.member.engagement.report
        await report("email.clicked", {"userId": "u_1", "to": "a@b.com", "linkUrl": "https://x.y"})
        await report(
            "contact.updated",
            {"id": "c_1", "externalId": "u_1", "email": "a@b.com", "properties": {"plan": "pro"}},
        )
        await report("contact.unsubscribed", {"externalId": "u_1", "scope": "all"})
        await report("email.sent", {"userId": "u_1"})
        await until_consumed(sent, StreamName.ENGAGEMENT, destination_durable(id))
        assert posthog.names() == ["email.link_clicked", "$set", "$set"]
        changes = posthog.events[1:]
        assert [change["properties"]["$set"] for change in changes] == [
            {"plan": "pro"},
            {"hogsend_unsubscribed": True},
        ]
        assert "a@b.com" not in bodies(changes)
        assert posthog.keys == [KEY] * len(posthog.keys)
        # The outcome is in the history once the message is acknowledged.
        assert await rows.history(id) == [
            ("email.clicked", "delivered", 1),
            ("contact.updated", "delivered", 1),
            ("contact.unsubscribed", "delivered", 1),
        ]


async def test_a_report_that_is_erased_while_it_waits_for_a_retry_is_not_sent(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_delivery, "DELETED_CHECK_SECONDS", 0)
    responses = iter([Reply(503)])
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
        tables(database_url) as rows,
    ):
        posthog.respond = lambda _batch: next(responses, None)
        id = await rows.add(RENAMING)
        await ready(sent, id)
        posthog.gate.clear()
        await sent.member.engagement.report("email.opened", {"userId": "u_1"})
        await eventually(lambda: posthog.arrived == 1)
        # An erasure deletes the message in this way.
        await sent.operator.js.delete_msg(StreamName.ENGAGEMENT, 1)
        await sent.member.engagement.report("email.opened", {"userId": "u_2"})
        posthog.gate.set()
        await until_consumed(sent, StreamName.ENGAGEMENT, destination_durable(id))
        assert [event["distinct_id"] for event in posthog.events] == ["u_2"]
        assert await sent.letters() == []

        async def is_recorded() -> bool:
            return ("email.opened", "discarded", 1) in await rows.history(id)

        # JetStream counts a deleted message as consumed before its outcome is recorded.
        await eventually(is_recorded)


async def test_case_143_a_disabled_destination_discards_events(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
        tables(database_url) as rows,
    ):
        id = await rows.add(RENAMING, disabled=True)
        default = await rows.add(RENAMING, is_default=True)
        await ready(sent, id, default)
        await sent.member.engagement.report("email.opened", {"userId": "u_1"})
        for destination in (id, default):
            await until_consumed(sent, StreamName.ENGAGEMENT, destination_durable(destination))
        assert posthog.requests == []
        assert await sent.letters() == []
        assert await rows.history(id) == [("email.opened", "discarded", 0)]


async def test_cases_144_and_146_a_repeated_report_is_delivered_once_and_two_opens_twice(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
        tables(database_url) as rows,
    ):
        id = await rows.add(RENAMING)
        await ready(sent, id)
        report = sent.member.engagement.report
        for _ in range(2):
            await report("email.opened", {"userId": "u_1", "emailSendId": "e"}, id="open-1")
        for _ in range(2):
            await report("email.opened", {"userId": "u_2", "emailSendId": "e"})
        await until_consumed(sent, StreamName.ENGAGEMENT, destination_durable(id))
        # Events of different people may be sent at the same time.
        assert sorted(event["distinct_id"] for event in posthog.events) == ["u_1", "u_2", "u_2"]
        assert len({event["uuid"] for event in posthog.events}) == 3


async def test_a_new_leader_deletes_consumers_of_deleted_destinations(
    servers: Servers, database_url: str
) -> None:
    orphan = destination_subscription(uuid4())
    async with connected(servers, User.OPERATOR) as operator:
        await streams_of_ingest(servers)
        await operator.js.add_consumer(orphan.stream, consumer_config(orphan))
        async with replica(servers, database_url, posthog={"posthog_api_key": KEY}):

            async def is_deleted() -> bool:
                consumers = await operator.js.consumers_info(StreamName.ENGAGEMENT)
                return orphan.durable not in {info.name for info in consumers}

            await eventually(is_deleted)


async def test_cases_122_and_149_to_151_the_mirror_never_sends_events_of_posthog_back(
    servers: Servers, database_url: str
) -> None:
    mirroring = {"analytics_event_mirror": True, "analytics_event_mirror_deny": ("secret.event",)}
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url, settings=mirroring) as sent,
        connected(servers, User.INGEST) as ingest,
    ):
        await eventually(lambda: _has_consumer(sent, StreamName.EVENTS, "mirror"))
        for name, source in (
            ("from.posthog", "posthog"),
            ("secret.event", "hogsend"),
            ("email.opened", "hogsend"),
            ("feature.used", "hogsend"),
            ("feature.used", "hogsend"),
        ):
            event = Event(
                id=f"id-{name}",
                event=name,
                user_id="u",
                contact_key="u",
                source=source,
                occurred_at=datetime.now(UTC),
                received_at=datetime.now(UTC),
                properties={"value": 149.99, "currency": "gbp"},
            )
            headers = {MESSAGE_ID: event.id}
            await ingest.publish(subjects.event(name), msgspec.json.encode(event), headers)
        await until_consumed(sent, StreamName.EVENTS, "mirror")
        assert posthog.names() == ["feature.used"]
        assert posthog.events[0]["properties"]["currency"] == "GBP"


async def test_buckets_are_mirrored_without_a_destination(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
    ):
        data = {"bucketId": "vip", "userId": "u_1", "syncToPostHog": True}
        await eventually(lambda: _has_consumer(sent, StreamName.ENGAGEMENT, "buckets"))
        await sent.member.engagement.report("bucket.entered", data)
        await sent.member.engagement.report("bucket.left", data)
        await eventually(lambda: len(posthog.events) == 2)
        assert posthog.events[0]["properties"]["$set"] == {"hogsend_bucket_vip": True}
        assert posthog.events[1]["properties"]["$unset"] == ["hogsend_bucket_vip"]


async def _has_consumer(sent: Sending, stream: StreamName, durable: str) -> bool:
    consumers = await sent.operator.js.consumers_info(stream)
    return durable in {info.name for info in consumers}
