"""A durable that is deleted while no replica runs goes on where it had been."""

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


async def announce(ingest: Connection, number: int) -> None:
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


def taken(posthog: CaptureRecorder) -> list[str]:
    """What PostHog knows in the end: a uuid it has already, it knows once."""
    return sorted({one["uuid"]: one["event"] for one in posthog.events}.values())


async def test_what_came_while_no_replica_ran_and_no_durable_existed_arrives_once(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        connected(servers, User.INGEST) as ingest,
        ingest_service(servers, database_url),
        client(servers, User.APP) as member,
        connected(servers, User.OPERATOR) as operator,
    ):
        at = {"posthog_api_key": KEY, "posthog_host": posthog.url}
        async with replica(servers, database_url, posthog=at, settings=MIRRORED) as store:
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
            await announce(ingest, 1)
            await eventually(lambda: taken(posthog) == ["$set", "email.opened", "feature.used"])
            await eventually(lambda: _is_empty(sent))
            # What PostHog has need not be acknowledged yet, and would be sent again.
            for stream, durable in durables:
                await until_consumed(sent, stream, durable)
        for stream, durable in durables:
            await (await operator.js_for(stream)).delete_consumer(stream, durable)
        await report(sent, 2)
        await announce(ingest, 2)
        await until_consumed(sent, ENGAGEMENT, "ingest")
        # Everybody who is there is done with it.
        waiting = FAILURES.labels("trim", "Unavailable")
        waited = waiting._value.get()
        await eventually(lambda: waiting._value.get() > waited + 1)
        async with replica(servers, database_url, posthog=at, settings=MIRRORED):
            await eventually(
                lambda: taken(posthog) == sorted(2 * ["$set", "email.opened", "feature.used"])
            )
            await eventually(lambda: _is_empty(sent))
            for stream, durable in durables:
                await until_consumed(sent, stream, durable)
    # In effect and in fact: the last replica had the time to save where it was.
    assert len(posthog.events) == 6


async def test_what_is_sent_again_after_a_crash_has_the_uuid_it_had(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies_first(_streams: JetStreams) -> None: ...

    monkeypatch.setattr(JetStreams, "save_positions", dies_first)
    async with capture_recorder() as posthog:
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            (default,) = await eventually(sent.store.all)
            durable = destination_durable(default.id)
            await until_consumed(sent, ENGAGEMENT, durable)
            await report(sent, 1)
            await eventually(lambda: taken(posthog) == ["$set", "email.opened"])
            await until_consumed(sent, ENGAGEMENT, durable)
        async with connected(servers, User.OPERATOR) as operator:
            await operator.js.delete_consumer(ENGAGEMENT, durable)
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            await eventually(lambda: posthog.names().count("email.opened") == 2)
            await until_consumed(sent, ENGAGEMENT, durable)
            shown = await sent.store.deliveries(default.id, ListDeliveries(id=str(default.id)))
    assert taken(posthog) == ["$set", "email.opened"]
    assert shown.total == 1


async def test_a_stream_that_was_restored_to_an_earlier_end_is_read_from_there(
    servers: Servers, database_url: str
) -> None:
    async with capture_recorder() as posthog:
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            (default,) = await eventually(sent.store.all)
            durable = destination_durable(default.id)
            await until_consumed(sent, ENGAGEMENT, durable)
            made_at = (await sent.operator.js.stream_info(ENGAGEMENT)).created
        assert made_at is not None
        async with database(database_url) as tables, connected(servers, User.OPERATOR) as operator:
            later = SavedPosition(
                stream=ENGAGEMENT, durable=durable, stream_made_at=made_at, acknowledged=500
            )
            await PositionStore(tables).save([later])
            await operator.js.delete_consumer(ENGAGEMENT, durable)
        async with sending(servers, database_url, posthog.url, settings=DEFAULT) as sent:
            await until_consumed(sent, ENGAGEMENT, durable)
            await report(sent, 1)
            await eventually(lambda: "email.opened" in posthog.names())


async def test_the_position_of_what_is_not_wanted_any_more_is_forgotten(
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
            made = await gateway.request(
                ANALYTICS_CREATE_DESTINATION,
                CreateDestination(url="posthog://capture", event_types=["email.sent"]),
            )
            durable = destination_durable(UUID(made.id))
            assert durable in await positions.durables(ENGAGEMENT)
            await gateway.request(ANALYTICS_DELETE_DESTINATION, DestinationRef(made.id))

            async def gone() -> bool:
                return durable not in await positions.durables(ENGAGEMENT)

            await eventually(gone)
            left_over = SavedPosition(
                stream=ENGAGEMENT,
                durable=destination_durable(uuid4()),
                stream_made_at=datetime.now(UTC),
                acknowledged=1,
            )
            await positions.save([left_over])
        async with sending(servers, database_url, posthog.url) as sent:

            async def tidy() -> bool:
                wanted = {BUCKETS, *(destination_durable(one.id) for one in await sent.store.all())}
                kept = set(await positions.durables(ENGAGEMENT))
                return kept == wanted and not await positions.durables(EVENTS)

            await eventually(tidy)


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Database]:
    """The service's tables, beside it."""
    tables = Database(url, "analytics", MIGRATIONS, pool_size=1)
    await tables.connect()
    try:
        yield tables
    finally:
        await tables.close()


async def _is_empty(sent: Sending) -> bool:
    return await sent.waiting(ENGAGEMENT) == 0
