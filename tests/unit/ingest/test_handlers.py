"""Ingest's handlers on FastStream's test broker: each calls the class that does its work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from faststream.nats import TestNatsBroker

from hogsend.contract.audit import INGEST_AUDIT, AuditPage, ListAudit
from hogsend.contract.base import Empty
from hogsend.contract.contacts import (
    INGEST_CONTACT,
    INGEST_FILL_TIMEZONE,
    Contact,
    ContactRef,
    FillTimezone,
)
from hogsend.contract.dead_letters import (
    INGEST_DEAD_LETTERS,
    INGEST_PURGE,
    INGEST_REPLAY,
    ListDeadLetters,
    PurgeDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.contract.events import (
    INGEST_EVENTS,
    INGEST_RECORD,
    EventPage,
    ListEvents,
    RecordEvent,
    StoredEvent,
)
from hogsend.contract.headers import CORRELATION_ID
from hogsend.contract.health import INGEST_HEALTH
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.queued_message import QueuedMessage
from hogsend.service.subscribers.batches import BatchSubscriber
from services.ingest.app import MIGRATIONS, create_app
from services.ingest.audit import AuditTrail
from services.ingest.contacts.lookup import ContactStore
from services.ingest.dead_letters.admin import DeadLetterAdmin
from services.ingest.dead_letters.replay import Replayer
from services.ingest.events.event_processor import Decode, EventProcessor
from services.ingest.events.listing import EventList
from services.ingest.events.recording import Recorder
from services.ingest.handlers import router
from tests.offline_broker import ask, offline_broker
from tests.unit.ingest.fake_letters import FakeLetters
from tests.unit.ingest.fakes import NOW, FakePublisher, FakeStore

ACK = "$JS.ACK.WEBHOOKS.ingest.1.1.1.1767225600000000000.0"
"""The reply subject of a message of JetStream, which contains how it was delivered."""


class OneEvent(EventList):
    """Lists one event, whose properties may be large."""

    def __init__(self) -> None:
        self.size = 1
        self.next_before: str | None = None

    async def page(self, request: ListEvents, *, max_bytes: int | None = None) -> EventPage:
        assert max_bytes is not None
        event = StoredEvent(
            id="u-1",
            event="signed_up",
            user_id="anna",
            contact_key="anna",
            source="posthog",
            occurred_at=NOW,
            received_at=NOW,
            properties={"text": "x" * self.size},
        )
        return EventPage(
            events=[event],
            total=1,
            limit=request.limit,
            offset=request.offset,
            next_before=self.next_before,
        )


class Contacts(ContactStore):
    """Contains one contact, anna."""

    def __init__(self) -> None:
        self.zones: dict[str, str] = {}

    async def find(self, user_id: str) -> Contact:
        return Contact(contact_key="anna") if user_id == "anna" else Contact()

    async def fill_timezone(self, user_id: str, timezone: str) -> None:
        self.zones[user_id] = timezone


class Processor(EventProcessor):
    """Records the names of the events that are decoded from a batch."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    async def process(
        self, messages: Sequence[QueuedMessage], decode: Decode, *, in_order: bool = False
    ) -> None:
        self.in_order = in_order
        self.decoded += [event.name for message in messages if (event := decode(message))]


class Trail(AuditTrail):
    """Records the bodies of its entries."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def process(self, messages: Sequence[QueuedMessage]) -> None:
        self.bodies += [message.data for message in messages]

    async def page(self, request: ListAudit) -> AuditPage:
        return AuditPage([], total=0, limit=request.limit, offset=request.offset)


class Service:
    """The service without a server: its broker, and the fakes it is provided with."""

    def __init__(self) -> None:
        journal: list[str] = []
        self.broker: ServiceBroker = offline_broker(User.INGEST)
        self.publisher = FakePublisher(journal)
        self.listed, self.contacts = OneEvent(), Contacts()
        self.processor, self.trail = Processor(), Trail()
        self.letters = FakeLetters()
        admin = DeadLetterAdmin(self.letters)
        database = Database("postgresql://nowhere", "ingest", MIGRATIONS, pool_size=1)
        create_app(self.broker, database, batch_size=7)
        self.broker.provide(
            self.listed,
            self.contacts,
            self.processor,
            self.trail,
            admin,
            Recorder(FakeStore(journal), self.publisher),
            Replayer(self.publisher, self.letters, admin),
        )


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with TestNatsBroker(service.broker):
        yield service


async def test_webhooks_and_engagement_are_each_decoded_by_their_source(service: Service) -> None:
    body = b'{"event":{"event":"signed_up","distinct_id":"anna"}}'
    await service.broker.publish(body, "hogsend.webhooks.posthog", reply_to=ACK)
    body = b'{"data":{"userId":"anna"}}'
    await service.broker.publish(body, "hogsend.engagement.email.opened", reply_to=ACK)
    assert service.processor.decoded == ["signed_up", "email.opened"]


async def test_audit_entries_are_processed_and_listed(service: Service) -> None:
    await service.broker.publish(b"entry", "hogsend.audit")
    assert service.trail.bodies == [b"entry"]
    assert (await ask(service.broker, INGEST_AUDIT, ListAudit(limit=5))).limit == 5


async def test_events_are_listed(service: Service) -> None:
    page = await ask(service.broker, INGEST_EVENTS, ListEvents())
    assert [event.id for event in page.events] == ["u-1"]


@pytest.mark.parametrize(
    ("next_before", "following"), [("cursor", "before=cursor"), (None, "offset=8")]
)
async def test_a_list_is_refused_when_its_first_event_does_not_fit_into_a_reply(
    service: Service, next_before: str | None, following: str
) -> None:
    service.listed.size = 2 * 1024 * 1024
    service.listed.next_before = next_before
    with pytest.raises(InvalidRequest, match=f"alone does not fit.*; continue with {following}"):
        await ask(service.broker, INGEST_EVENTS, ListEvents(offset=7))


async def test_a_reported_event_is_published_with_the_correlation_id_of_its_request(
    service: Service,
) -> None:
    report = RecordEvent(event="e", user_id="anna", received_at=NOW)
    await service.broker.request(report, INGEST_RECORD.subject, headers={CORRELATION_ID: "c-1"})
    (message,) = service.publisher.published.values()
    assert message.headers[CORRELATION_ID] == "c-1"


async def test_a_contact_is_looked_up_and_its_time_zone_filled(service: Service) -> None:
    contact = await ask(service.broker, INGEST_CONTACT, ContactRef(user_id="anna"))
    assert contact == Contact(contact_key="anna")
    zone = FillTimezone(user_id="anna", timezone="Asia/Tokyo")
    assert await ask(service.broker, INGEST_FILL_TIMEZONE, zone) == Empty()
    assert service.contacts.zones == {"anna": "Asia/Tokyo"}


async def test_dead_letters_are_listed_replayed_and_purged(service: Service) -> None:
    for _ in range(3):
        service.letters.add()
    assert (await ask(service.broker, INGEST_DEAD_LETTERS, ListDeadLetters())).total == 3
    assert (await ask(service.broker, INGEST_REPLAY, ReplayDeadLetters(sequence=2))).count == 1
    assert len(service.publisher.published) == 1
    assert (await ask(service.broker, INGEST_PURGE, PurgeDeadLetters(sequence=1))).count == 1
    assert list(service.letters.letters) == [3]
    with pytest.raises(NotFound):
        await ask(service.broker, INGEST_PURGE, PurgeDeadLetters(sequence=1))


async def test_health_is_reported_without_postgresql(service: Service) -> None:
    health = await ask(service.broker, INGEST_HEALTH, Empty())
    assert (health.service, health.database.status) == ("ingest", "down")


async def test_a_malformed_request_is_refused(service: Service) -> None:
    with pytest.raises(InvalidRequest):
        await ask(service.broker, INGEST_EVENTS, msgspec.structs.replace(ListEvents(), limit=0))


def test_the_router_declares_the_endpoints_and_channels_of_ingests_contract() -> None:
    served = {endpoint.subject for endpoint in endpoints() if endpoint.service is User.INGEST}
    assert {endpoint.subject for endpoint in router.endpoints} == served
    published = {channel.subject for channel in channels() if User.INGEST in channel.publishers}
    assert {channel.subject for channel in router.published} == published


def test_every_consumer_pulls_batches_of_the_configured_size() -> None:
    broker = offline_broker(User.INGEST)
    database = Database("postgresql://nowhere", "ingest", MIGRATIONS, pool_size=1)
    create_app(broker, database, batch_size=7)
    batches = [
        subscriber.batch
        for subscriber in broker.subscribers
        if isinstance(subscriber, BatchSubscriber)
    ]
    assert batches == [7, 7, 7, 7]
