"""Every subject of the service, called on FastStream's test broker: no server, the real parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from faststream.nats import TestNatsBroker

from hogsend.contract.base import Empty
from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES
from hogsend.contract.conditions import ANALYTICS_CONDITIONS, Condition, ConditionQuery
from hogsend.contract.conditions import EvaluateConditions as Evaluate
from hogsend.contract.credentials import CREDENTIALS_TOKEN, POSTHOG, CredentialChanged, ProjectReply
from hogsend.contract.destinations import (
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_DELETE_DESTINATION,
    ANALYTICS_DELIVERIES,
    ANALYTICS_ENGAGEMENT_READERS,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    ANALYTICS_TEST_DESTINATION,
    ChangeDestination,
    CreateDestination,
    DestinationRef,
    ListDeliveries,
    ListDestinations,
)
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.contract.headers import format_time
from hogsend.contract.health import ANALYTICS_HEALTH
from hogsend.contract.persons import ANALYTICS_PERSON, ANALYTICS_TIMEZONE, GetPerson, GetTimezone
from hogsend.contract.registry import endpoints
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.database import Database
from hogsend.service.settings.shared import PostHogSettings
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.tasks import cancel_all
from services.analytics.app import create_app
from services.analytics.delivery.runner import DeliveryRunner
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.service import DestinationService
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings
from services.analytics.stored_project import StoredProject
from tests.offline_broker import ask
from tests.unit.analytics.delivery_fakes import FakeCapture, FakeStreams, write_recorder
from tests.unit.analytics.fake_destinations import FakeStore, destination
from tests.unit.analytics.fakes import FakeCredentials, FakeLink, FakePostHog
from tests.unit.analytics.person_reading import reading
from tests.unit.analytics.test_destination_service import FakeConsumers
from tests.waiting import eventually

EGRESS = EgressPolicy.of(())
DESTINATION = destination()


def composed(link: FakeLink) -> ServiceBroker:
    """The service as it is composed, without NATS and PostgreSQL."""
    broker = ServiceBroker(User.ANALYTICS, link)
    create_app(
        broker,
        Database("postgresql://nowhere", "analytics", Path(), pool_size=1),
        FakePostHog().http,
        EGRESS,
        posthog=PostHogSettings(),
        settings=AnalyticsSettings(),
    )
    return broker


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
async def broker(link: FakeLink) -> AsyncIterator[ServiceBroker]:
    """The service, with destinations in memory."""
    composed_broker = composed(link)
    composed_broker.provide(
        DestinationService(
            link,
            FakeConsumers(),
            FakeStore(),
            EGRESS,
            "https://us.i.posthog.com",
            max_destinations=50,
        )
    )
    async with TestNatsBroker(composed_broker):
        yield composed_broker


async def test_every_endpoint_of_the_contract_has_a_handler(broker: ServiceBroker) -> None:
    declared = {endpoint.subject for endpoint in endpoints() if endpoint.service == User.ANALYTICS}
    assert {endpoint.subject for endpoint in broker.endpoints} == declared


async def test_without_configuration_reads_are_empty_and_nothing_fails(
    broker: ServiceBroker,
) -> None:
    assert (await ask(broker, ANALYTICS_PERSON, GetPerson("u_1"))).properties == {}
    assert await ask(broker, ANALYTICS_FLAGS, GetFlags(distinct_id="u_1")) == Flags()
    zone = await ask(broker, ANALYTICS_TIMEZONE, GetTimezone("u_1", default="Asia/Tokyo"))
    assert (zone.timezone, zone.source) == ("Asia/Tokyo", "default")


async def test_conditions_are_evaluated_or_refused(broker: ServiceBroker) -> None:
    exists = Condition(property="plan", operator="exists")
    assert (await ask(broker, ANALYTICS_CONDITIONS, Evaluate([ConditionQuery("u", [])]))).results
    with pytest.raises(Unavailable):
        await ask(broker, ANALYTICS_CONDITIONS, Evaluate([ConditionQuery("u", [exists])]))


@pytest.mark.parametrize(
    "condition",
    [
        {"property": "plan", "operator": "eq"},
        {"property": "plan", "operator": "like", "value": "x"},
        {"property": 5, "operator": "exists"},
        {"type": "event", "property": "plan", "operator": "exists"},
        {"operator": "exists"},
    ],
)
async def test_a_wrong_condition_is_a_typed_error(
    broker: ServiceBroker, condition: dict[str, object]
) -> None:
    query = {"queries": [{"distinctId": "u_1", "conditions": [condition]}]}
    reply = await broker.request(msgspec.json.encode(query), ANALYTICS_CONDITIONS.subject)
    assert reply.headers["Nats-Service-Error-Code"] == InvalidRequest.code


@pytest.mark.parametrize("distinct_id", ["", " ", "x" * 201])
async def test_an_invalid_distinct_id_is_a_typed_error(
    broker: ServiceBroker, distinct_id: str
) -> None:
    with pytest.raises(InvalidRequest):
        await ask(broker, ANALYTICS_PERSON, GetPerson(distinct_id))
    with pytest.raises(InvalidRequest):
        await ask(broker, ANALYTICS_TIMEZONE, GetTimezone(distinct_id))
    with pytest.raises(InvalidRequest):
        await ask(broker, ANALYTICS_FLAGS, GetFlags(distinct_id=distinct_id))


async def test_a_destination_is_created_changed_tested_and_deleted(
    broker: ServiceBroker, link: FakeLink
) -> None:
    new = CreateDestination(url="posthog://capture", event_types=["email.opened"])
    created = await ask(broker, ANALYTICS_CREATE_DESTINATION, new)
    reference = DestinationRef(created.id)
    assert await ask(broker, ANALYTICS_GET_DESTINATION, reference) == created
    page = await ask(broker, ANALYTICS_LIST_DESTINATIONS, ListDestinations())
    assert page.webhooks == [created]
    change = ChangeDestination(id=created.id, disabled=True)
    assert (await ask(broker, ANALYTICS_CHANGE_DESTINATION, change)).disabled
    assert (await ask(broker, ANALYTICS_TEST_DESTINATION, reference)).enqueued
    assert len(link.published) == 1
    assert (await ask(broker, ANALYTICS_DELIVERIES, ListDeliveries(id=created.id))).total == 0
    readers = await ask(broker, ANALYTICS_ENGAGEMENT_READERS, Empty())
    assert destination_durable(UUID(created.id)) in readers.durables
    assert "buckets" in readers.durables
    assert (await ask(broker, ANALYTICS_DELETE_DESTINATION, reference)).deleted
    with pytest.raises(NotFound):
        await ask(broker, ANALYTICS_GET_DESTINATION, reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"eventTypes": []},
        {"kind": "webhook"},
        {"description": "x" * 501},
        {"disabled": "yes"},
        {"config": []},
    ],
)
async def test_a_missing_destination_is_a_typed_error(
    broker: ServiceBroker, changes: dict[str, Any]
) -> None:
    new = {"url": "posthog://capture", "eventTypes": ["email.opened"], **changes}
    body = msgspec.json.encode(new)
    reply = await broker.request(body, ANALYTICS_CREATE_DESTINATION.subject)
    assert reply.headers["Nats-Service-Error-Code"] == InvalidRequest.code


async def test_without_postgresql_destinations_are_unavailable(link: FakeLink) -> None:
    broker = composed(link)
    async with TestNatsBroker(broker):
        with pytest.raises(Unavailable, match="PostgreSQL"):
            await ask(broker, ANALYTICS_LIST_DESTINATIONS, ListDestinations())


async def test_the_service_reports_health_and_capabilities(broker: ServiceBroker) -> None:
    rows = (await ask(broker, ANALYTICS_CAPABILITIES, Empty())).capabilities
    assert {row.state for row in rows} == {"unknown"}
    health = await ask(broker, ANALYTICS_HEALTH, Empty())
    assert (health.service, health.database.status) == ("analytics", "down")


async def test_a_credential_change_reaches_the_watcher(link: FakeLink) -> None:
    broker, watcher = composed(link), CredentialWatcher("posthog")
    changes: list[CredentialChanged | None] = []
    watcher.on_change(changes.append)
    broker.provide(watcher)
    document = (
        b'{"provider":"posthog","version":7,"change":"stored","kinds":["oauth"],'
        b'"changedKinds":["oauth"],"scopes":[],"expiresAt":null,"changedAt":"2026-06-13T04:00:00Z"}'
    )
    async with TestNatsBroker(broker):
        await broker.publish(document, "hogsend.credentials.posthog.changed")
    (change,) = changes
    assert change is not None
    assert (change.version, change.change) == (7, "stored")


async def test_an_erased_person_is_removed_from_the_caches(link: FakeLink) -> None:
    broker, world = composed(link), reading()
    broker.provide(world.persons)
    world.write(set={"plan": "pro"})
    assert await world.persons.properties("u_42") == {"plan": "pro"}
    document = (
        b'{"id":"e","contactId":"c","userIds":["u_42"],"erasedAt":"%b"}'
        % format_time(datetime.now(UTC)).encode()
    )
    async with TestNatsBroker(broker):
        await broker.publish(document, "hogsend.contacts.c.erased")
    assert await world.persons.properties("u_42") == {}


async def test_a_reconnection_counts_as_a_credential_change(link: FakeLink) -> None:
    composed(link)
    assert CREDENTIALS_TOKEN.subject not in link.requested
    await link._on_reconnect()
    await eventually(lambda: CREDENTIALS_TOKEN.subject in link.requested)


@dataclass(frozen=True)
class Delivered:
    """A message as JetStream delivers it, and the event that PostHog gets."""

    stream: str
    durable: str
    subject: str
    body: dict[str, Any]
    event: str

    @property
    def reply(self) -> str:
        """The reply subject, with deliveries, sequences, time and number of pending messages."""
        return f"$JS.ACK.{self.stream}.{self.durable}.1.7.7.1750000000000000000.0"


DELIVERED = [
    Delivered(
        "PERSONS",
        "persons",
        "hogsend.persons.capture",
        {"distinctId": "u_1", "event": "upgraded"},
        "upgraded",
    ),
    Delivered(
        "ENGAGEMENT",
        "buckets",
        "hogsend.engagement.bucket.entered",
        {"data": {"bucketId": "vip", "userId": "u_1", "syncToPostHog": True}},
        "$set",
    ),
    Delivered(
        "ENGAGEMENT",
        destination_durable(DESTINATION.id),
        "hogsend.engagement.email.opened",
        {"data": {"userId": "u_1"}},
        "email.opened",
    ),
    Delivered(
        "EVENTS",
        "mirror",
        "hogsend.events.feature_used",
        {
            "id": "e_1",
            "event": "feature used",
            "userId": "u_1",
            "contactKey": "u_1",
            "source": "hogsend",
            "occurredAt": "2026-06-13T04:00:00Z",
            "receivedAt": "2026-06-13T04:00:00Z",
            "properties": {},
        },
        "feature used",
    ),
]


@pytest.mark.parametrize("message", DELIVERED, ids=lambda message: message.subject)
async def test_a_message_of_a_stream_reaches_posthog(link: FakeLink, message: Delivered) -> None:
    broker, capture = composed(link), FakeCapture()
    FakeCredentials(link, project=ProjectReply(1, "present", project_api_key="phc_1"))
    stored = StoredProject(link, CredentialWatcher(POSTHOG))
    key = ProjectKey(PostHogSettings(), stored)
    delivery = DeliveryRunner(
        streams=FakeStreams(),
        capture=capture,
        project_key=key,
        store=FakeStore(DESTINATION),
        recorder=write_recorder(key),
        settings=AnalyticsSettings(analytics_event_mirror=True),
    )
    broker.provide(delivery)
    sending = asyncio.create_task(delivery.run())

    async def is_accepted() -> bool:
        body = msgspec.json.encode(message.body)
        await broker.publish(body, message.subject, stream=message.stream, reply_to=message.reply)
        return bool(capture.accepted)

    async with TestNatsBroker(broker):
        await eventually(is_accepted)
    await cancel_all(sending)
    assert set(capture.accepted) == {("u_1", message.event)}
