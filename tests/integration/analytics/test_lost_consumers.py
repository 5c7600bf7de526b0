"""A durable that is deleted while no replica runs continues at its saved position."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from hogsend.contract import subjects
from hogsend.contract.consumers import MIRROR
from hogsend.contract.destinations import (
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_DELETE_DESTINATION,
    CreateDestination,
    DestinationRef,
    ListDeliveries,
)
from hogsend.contract.events import Event
from hogsend.contract.headers import MESSAGE_ID
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service.database import Database
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.analytics.app import MIGRATIONS
from services.analytics.delivery.jetstream import JetStreams
from services.analytics.delivery.positions import PositionStore, SavedPosition
from services.analytics.delivery.sources.buckets import BucketsSource
from services.analytics.destinations.durable import destination_durable
from tests.capture_recorder import CaptureRecorder, capture_recorder
from tests.integration.analytics.sending import KEY, Sending, replica, sending, until_consumed
from tests.integration.harness import client, connected
from tests.integration.ingest.driver import ingest_service
from tests.servers import Servers
from tests.waiting import eventually

BUCKETS = BucketsSource.subscription.durable
ENGAGEMENT, EVENTS = StreamName.ENGAGEMENT, StreamName.EVENTS
DEFAULT: dict[str, Any] = {"enable_posthog_destination": True}
MIRRORED: dict[str, Any] = {**DEFAULT, "analytics_event_mirror": True}

pytestmark = pytest.mark.usefixtures("fresh_bus")


async def publish_event(ingest: Connection, number: int) -> None:
    now = datetime.now(UTC)
    event = Event(
        id=f"e-{number}",
        event="feature.used",
        user_id="u",
        contact_key="u",
        source="hogsend",
        occurred_at=now,
        received_at=now,
        properties={"n": number},
    )
    await ingest.publish(
        subjects.event(event.event), msgspec.json.encode(event), {MESSAGE_ID: event.id}
    )


async def report(sent: Sending, number: int) -> None:
    await sent.member.engagement.report("email.opened", {"userId": "u"}, id=f"r-{number}")
    bucket = {"bucketId": f"b{number}", "userId": "u", "syncToPostHog": True}
    await sent.member.engagement.report("bucket.entered", bucket, id=f"b-{number}")


def events_in_posthog(posthog: CaptureRecorder) -> list[str]:
    """The events that PostHog shows in the end: it deduplicates by uuid."""
    return sorted({event["uuid"]: event["event"] for event in posthog.events}.values())


async def test_messages_published_while_no_replica_and_no_durable_existed_are_delivered_once(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        connected(servers, User.INGEST) as ingest,
        ingest_service(servers, database_url),
        client(servers, User.APP) as member,
        connected(servers, User.OPERATOR) as operator,
    ):
        environment = {"posthog_api_key": KEY, "posthog_host": posthog.url}
        async with replica(servers, database_url, posthog=environment, settings=MIRRORED) as store:
            sent = Sending(member, operator, store)
            (default,) = await eventually(store.all)
            durables = (
                (ENGAGEMENT, destination_durable(default.id)),
                (ENGAGEMENT, BUCKETS),
                (EVENTS, MIRROR),
            )
            for stream, durable in durables:
                await until_consumed(sent, stream, durable)
            await report(sent, 1)
            await publish_event(ingest, 1)
            await eventually(
                lambda: events_in_posthog(posthog) == ["$set", "email.opened", "feature.used"]
            )
            await eventually(lambda: _is_empty(sent))
            # Wait for the acknowledgements too; otherwise the messages would be sent again.
            for stream, durable in durables:
                await until_consumed(sent, stream, durable)
        for stream, durable in durables:
            await (await operator.js_for(stream)).delete_consumer(stream, durable)
        await report(sent, 2)
        await publish_event(ingest, 2)
        await until_consumed(sent, ENGAGEMENT, "ingest")
        # Reports stay although all existing consumers have acknowledged them.
        failures = FAILURES.labels("trim", "Unavailable")
        failures_before = failures._value.get()
        await eventually(lambda: failures._value.get() > failures_before + 1)
        async with replica(servers, database_url, posthog=environment, settings=MIRRORED):
            await eventually(
                lambda: (
                    events_in_posthog(posthog)
                    == sorted(2 * ["$set", "email.opened", "feature.used"])
                )
            )
            await eventually(lambda: _is_empty(sent))
            for stream, durable in durables:
                await until_consumed(sent, stream, durable)
    # No event was even sent twice, because the first replica had saved its positions.
    assert len(posthog.events) == 6


async def test_an_event_that_is_sent_again_after_a_crash_keeps_its_uuid(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_saved(_streams: JetStreams) -> None: ...

    monkeypatch.setattr(JetStreams, "save_positions", not_saved)
    async with capture_recorder() as posthog:
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            (default,) = await eventually(sent.store.all)
            durable = destination_durable(default.id)
            await until_consumed(sent, ENGAGEMENT, durable)
            await report(sent, 1)
            await eventually(lambda: events_in_posthog(posthog) == ["$set", "email.opened"])
            await until_consumed(sent, ENGAGEMENT, durable)
        async with connected(servers, User.OPERATOR) as operator:
            await operator.js.delete_consumer(ENGAGEMENT, durable)
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            await eventually(lambda: posthog.names().count("email.opened") == 2)
            await until_consumed(sent, ENGAGEMENT, durable)
            shown = await sent.store.deliveries(default.id, ListDeliveries(id=str(default.id)))
    assert events_in_posthog(posthog) == ["$set", "email.opened"]
    assert shown.total == 1


async def test_a_consumer_of_a_stream_that_was_restored_to_an_earlier_end_reads_new_messages(
    servers: Servers, database_url: str
) -> None:
    async with capture_recorder() as posthog:
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            (default,) = await eventually(sent.store.all)
            durable = destination_durable(default.id)
            await until_consumed(sent, ENGAGEMENT, durable)
            created_at = (await sent.operator.js.stream_info(ENGAGEMENT)).created
        assert created_at is not None
        async with database(database_url) as tables, connected(servers, User.OPERATOR) as operator:
            later = SavedPosition(
                stream=ENGAGEMENT, durable=durable, stream_made_at=created_at, acknowledged=500
            )
            await PositionStore(tables).save([later])
            await operator.js.delete_consumer(ENGAGEMENT, durable)
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            await until_consumed(sent, ENGAGEMENT, durable)
            await report(sent, 1)
            await eventually(lambda: "email.opened" in posthog.names())


async def test_the_saved_position_of_a_durable_that_is_not_needed_is_deleted(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        connected(servers, User.GATEWAY) as gateway,
        database(database_url) as tables,
    ):
        positions = PositionStore(tables)
        async with sending(servers, database_url, posthog.url, settings=MIRRORED):
            await eventually(lambda: positions.durables(EVENTS))
            created = await gateway.request(
                ANALYTICS_CREATE_DESTINATION,
                CreateDestination(url="posthog://capture", event_types=["email.sent"]),
            )
            durable = destination_durable(UUID(created.id))
            assert durable in await positions.durables(ENGAGEMENT)
            await gateway.request(ANALYTICS_DELETE_DESTINATION, DestinationRef(created.id))

            async def is_deleted() -> bool:
                return durable not in await positions.durables(ENGAGEMENT)

            await eventually(is_deleted)
            orphan = SavedPosition(
                stream=ENGAGEMENT,
                durable=destination_durable(uuid4()),
                stream_made_at=datetime.now(UTC),
                acknowledged=1,
            )
            await positions.save([orphan])
        async with sending(servers, database_url, posthog.url) as sent:

            async def only_needed_positions() -> bool:
                destinations = await sent.store.all()
                needed = {BUCKETS, *(destination_durable(stored.id) for stored in destinations)}
                saved = set(await positions.durables(ENGAGEMENT))
                return saved == needed and not await positions.durables(EVENTS)

            await eventually(only_needed_positions)


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Database]:
    """Connect to the tables of the analytics service."""
    tables = Database(url, "analytics", MIGRATIONS, pool_size=1)
    await tables.connect()
    try:
        yield tables
    finally:
        await tables.close()


async def _is_empty(sent: Sending) -> bool:
    return await sent.messages_in(ENGAGEMENT) == 0
