"""Every replica records writes to persons of the project that it reads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hogsend.contract import subjects
from hogsend.contract.credentials import ProjectReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.permissions import permissions
from hogsend.contract.users import User
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.delivery.destination_cache import DestinationCache
from services.analytics.delivery.sources.built_in import built_in_sources
from services.analytics.delivery.sources.destination import DestinationSource
from services.analytics.delivery.sources.source import Source
from services.analytics.delivery.write_recorder import PublishedMessage, WriteRecorder
from services.analytics.destinations.model import Destination
from services.analytics.persons.own_writes import OwnWrites
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.delivery_fakes import FakeCaptureSubscription, FakeMessage
from tests.unit.analytics.fake_destinations import FakeStore, destination
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import now, on_virtual_time, settle

KEY = "phc_instance"
PERSON = {"plan": "free"}
ALL = ["contact.updated", "contact.unsubscribed", "contact.control_group", "journey.heldout"]


class World:
    """The recorder of one replica, with fakes of its dependencies."""

    def __init__(self, *stored: Destination, key: str | None = KEY, **settings: Any) -> None:
        self.link = FakeLink()
        FakeCredentials(self.link, project=ProjectReply(1, "present", project_api_key=key))
        self.project_key = ProjectKey(
            PostHogSettings(), StoredProject(self.link, CredentialWatcher("posthog"))
        )
        self.store = FakeStore(*stored)
        self.writes = OwnWrites(now)
        chosen = AnalyticsSettings(**settings)
        self.recorder = WriteRecorder(
            self.writes,
            self.project_key,
            built_in_sources(self.project_key, chosen),
            DestinationCache(self._sources, now),
        )

    async def _sources(self) -> list[Source]:
        return [
            DestinationSource(stored, self.project_key, self.store, default_enabled=False)
            for stored in await self.store.all()
        ]

    async def receive(self, subject: str, body: Any, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self.recorder.record(
            PublishedMessage(f"hogsend.{subject}", headers, raw, datetime.now(UTC))
        )

    def visible_properties(self, distinct_id: str = "u_42") -> dict[str, Any]:
        """The properties that a read returns for a person that PostHog returns as `PERSON`."""
        return self.writes.overlay(distinct_id, dict(PERSON))


def syncing(**changes: Any) -> Destination:
    given = {"syncPersons": True, **changes.pop("given", {})}
    return destination(**{"event_types": ALL, "given": given, **changes})


CAPTURED = {"distinctId": "u_42", "event": "upgraded", "properties": {}}


@on_virtual_time
@pytest.mark.parametrize(
    ("subject", "body", "visible"),
    [
        ("persons.set", {"distinctId": "u_42", "set": {"plan": "pro"}}, {"plan": "pro"}),
        ("persons.set", {"distinctId": "u_42", "unset": ["plan"]}, {}),
        (
            "persons.set",
            {"distinctId": "u_42", "setOnce": {"plan": "pro", "a": 1}},
            PERSON | {"a": 1},
        ),
        ("persons.capture", CAPTURED | {"properties": {"$set": {"a": 1}}}, PERSON | {"a": 1}),
        ("persons.capture", CAPTURED | {"properties": {"$set_once": {"a": 1}}}, PERSON | {"a": 1}),
        ("persons.capture", CAPTURED | {"properties": {"$unset": ["plan"]}}, {}),
        ("persons.capture", CAPTURED | {"properties": {"set": {"plan": "pro"}}}, PERSON),
        ("persons.alias", {"distinctId": "u_42", "alias": "anon"}, PERSON),
        (
            "engagement.bucket.entered",
            {"data": {"bucketId": "vip", "userId": "u_42", "syncToPostHog": True}},
            PERSON | {"hogsend_bucket_vip": True},
        ),
        (
            "engagement.bucket.entered",
            {"data": {"bucketId": "vip", "userId": "u_42"}},
            PERSON,
        ),
        (
            "engagement.contact.updated",
            {"data": {"externalId": "u_42", "properties": {"plan": "pro"}}},
            {"plan": "pro"},
        ),
        (
            "engagement.contact.unsubscribed",
            {"data": {"externalId": "u_42", "scope": "all"}},
            PERSON | {"hogsend_unsubscribed": True},
        ),
        (
            "engagement.contact.control_group",
            {"data": {"userId": "u_42"}},
            PERSON | {"hogsend_control_group": True},
        ),
        (
            "engagement.journey.heldout",
            {"data": {"userId": "u_42", "journeyId": "j"}},
            PERSON | {"hogsend_holdout_j": True},
        ),
        # A type that the destination has not subscribed to, and malformed messages.
        ("engagement.contact.created", {"data": {"id": "u_42", "properties": {"a": 1}}}, PERSON),
        ("engagement.contact.updated", {"data": {"properties": {"a": 1}}}, PERSON),
        ("engagement.contact.updated", b"{", PERSON),
        ("persons.set", b"{", PERSON),
        ("persons.set", {"distinctId": " ", "set": {"a": 1}}, PERSON),
        ("persons.capture", b'{"$set":', PERSON),
        ("persons.nonsense", {"$set": {}}, PERSON),
    ],
)
async def test_a_write_is_visible_as_soon_as_it_is_published(
    subject: str, body: Any, visible: dict[str, Any]
) -> None:
    world = World(syncing())
    await world.receive(subject, body)
    assert world.visible_properties() == visible


UPDATED = {"data": {"externalId": "u_42", "properties": {"plan": "pro"}}}


@on_virtual_time
@pytest.mark.parametrize(
    ("sent_to", "is_seen"),
    [
        (syncing(), True),
        (syncing(given={"apiKey": KEY}), True),
        # Writes to another project do not affect the persons that are read.
        (syncing(given={"apiKey": "phc_other"}), False),
        (syncing(given={"syncPersons": False}), False),
        (syncing(event_types=["email.opened"]), False),
        (syncing(disabled=True), False),
        (syncing(is_default=True), False),
    ],
)
async def test_only_writes_of_destinations_in_the_instances_project_count(
    sent_to: Destination, is_seen: bool
) -> None:
    world = World(sent_to)
    await world.receive("engagement.contact.updated", UPDATED)
    assert (world.visible_properties() == {"plan": "pro"}) == is_seen


@on_virtual_time
async def test_a_message_for_one_destination_is_not_for_others() -> None:
    world = World(syncing())
    await world.receive("engagement.contact.updated", UPDATED, **{"Hogsend-Destination": "other"})
    assert world.visible_properties() == PERSON


@on_virtual_time
async def test_without_a_project_key_nothing_is_written() -> None:
    world = World(syncing(given={"apiKey": "phc_other"}), key=None)
    await world.receive("persons.set", {"distinctId": "u_42", "set": {"plan": "pro"}})
    await world.receive("engagement.contact.updated", UPDATED)
    assert world.visible_properties() == PERSON


@on_virtual_time
async def test_while_the_project_is_unknown_a_write_counts() -> None:
    world = World()
    world.link.replies.clear()
    await world.receive("persons.set", {"distinctId": "u_42", "set": {"plan": "pro"}})
    assert world.visible_properties() == {"plan": "pro"}


@on_virtual_time
async def test_a_read_waits_for_a_write_that_is_being_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(syncing())
    may_reply, read_all = asyncio.Event(), world.store.all

    async def reply_late() -> Any:
        await may_reply.wait()
        return await read_all()

    monkeypatch.setattr(world.store, "all", reply_late)
    body = {"data": {"externalId": "u_42", "properties": {"plan": "pro"}}}
    recording = asyncio.create_task(world.receive("engagement.contact.updated", body))
    await settle()
    reading = asyncio.create_task(world.writes.wait_until_recorded())
    await settle()
    assert not reading.done()
    may_reply.set()
    await asyncio.gather(recording, reading)
    assert world.visible_properties() == {"plan": "pro"}
    assert now() == 0, "the read did not wait until its timeout"


@on_virtual_time
async def test_without_postgresql_the_cached_destinations_count() -> None:
    world = World(syncing())
    await world.receive(
        "engagement.contact.updated", {"data": {"id": "u_1", "properties": {"a": 1}}}
    )
    world.store.down = True
    with pytest.raises(Unavailable):
        await world.store.all()
    await world.receive("engagement.contact.updated", UPDATED)
    assert world.visible_properties() == {"plan": "pro"}


@on_virtual_time
@pytest.mark.parametrize("mirrors", [True, False])
async def test_mirrored_events_are_recorded_if_the_mirror_is_on(mirrors: bool) -> None:
    world = World(analytics_event_mirror=mirrors)
    assert ("hogsend.events.*" in world.recorder.subjects) == mirrors
    event = {
        "id": "e",
        "event": "moved",
        "userId": "u_42",
        "contactKey": "u_42",
        "source": "hogsend",
        "occurredAt": "2026-06-13T04:00:00Z",
        "receivedAt": "2026-06-13T04:00:00Z",
        "properties": {"$set": {"city": "Oslo"}},
    }
    await world.receive("events.moved", event)
    assert world.visible_properties() == (PERSON | {"city": "Oslo"} if mirrors else PERSON)


@on_virtual_time
async def test_a_write_before_the_subscription_is_recorded_by_the_sending_replica() -> None:
    world = World()
    started = datetime.now(UTC)
    world.recorder.mark_subscribed()

    def sent(name: str, queued_at: datetime) -> FakeMessage:
        body = msgspec.json.encode({"distinctId": "u_42", "set": {name: 1}})
        return FakeMessage(1, subject="hogsend.persons.set", body=body, queued_at=queued_at)

    await world.recorder.record_missed(
        [sent("before", started - timedelta(hours=1)), sent("after", started + timedelta(hours=1))]
    )
    assert world.visible_properties() == PERSON | {"before": 1}


@on_virtual_time
async def test_a_received_write_is_not_confused_with_a_stream_position() -> None:
    world = World()
    subject = "engagement.bucket.entered"
    received = {"bucketId": "received", "userId": "u_42", "syncToPostHog": True}
    await world.receive(subject, {"data": received})
    before = abs(PublishedMessage("", {}, b"", datetime.now(UTC)).position) - 1
    body = msgspec.json.encode({"data": {**received, "bucketId": "sent"}})
    await world.recorder.record_missed(
        [FakeMessage(before, subject=f"hogsend.{subject}", body=body)]
    )
    assert world.visible_properties() == PERSON | {
        "hogsend_bucket_received": True,
        "hogsend_bucket_sent": True,
    }


def test_nats_permits_the_subscriptions_to_writes() -> None:
    allowed = permissions(User.ANALYTICS).subscribe
    for subject in World(analytics_event_mirror=True).recorder.subjects:
        assert any(subjects.covers(pattern, subject) for pattern in allowed), subject


def captured(
    *, age: float, user: str = "u_42", plan: str = "pro", position: int = 1
) -> FakeMessage:
    """A captured event that is read from its stream `age` seconds after it was published."""
    body = msgspec.json.encode(
        {"distinctId": user, "event": "upgraded", "properties": {"$set": {"plan": plan}}}
    )
    at = datetime.now(UTC) - timedelta(seconds=age)
    return FakeMessage(position, subject="hogsend.persons.capture", body=body, queued_at=at)


@on_virtual_time
async def test_the_sending_replica_reads_captured_events_from_their_stream_only() -> None:
    world, captures = World(), FakeCaptureSubscription()
    world.recorder.use_captures(captures)
    world.recorder.mark_subscribed()
    world.recorder._subscribed_at -= timedelta(hours=1)
    await world.recorder.record_missed([captured(age=0)])
    # The replica was still subscribed when the event was published.
    assert (captures.receives_captures, world.visible_properties()) == (False, PERSON)
    await world.recorder.record_missed([captured(age=0)])
    assert world.visible_properties() == {"plan": "pro"}

    # With a lag, a person could be read before the event that changes it.
    await world.recorder.record_missed([captured(age=60, user="u_43")])
    assert (captures.receives_captures, world.visible_properties("u_43")) == (True, {"plan": "pro"})

    await world.recorder.record_missed([captured(age=0)])
    assert not captures.receives_captures
    await world.recorder.record_missed([captured(age=0)], can_pull_more=False)
    assert captures.receives_captures


@on_virtual_time
async def test_a_read_waits_for_events_captured_before_it() -> None:
    world, captures = World(), FakeCaptureSubscription()
    world.recorder.use_captures(captures)
    await world.writes.wait_until_recorded()
    await world.recorder.record_missed([captured(age=0)])
    captures.last = 7
    reading = asyncio.create_task(world.writes.wait_until_recorded())
    await settle()
    await world.recorder.record_missed([captured(age=0, position=6)])
    await settle()
    assert not reading.done()
    await world.recorder.record_missed([captured(age=0, position=7, plan="max")])
    await reading
    assert world.visible_properties() == {"plan": "max"}
    # A read does not fail while the stream is not read, or its end is unknown.
    captures.last = 8
    await world.writes.wait_until_recorded()
    captures.last = None
    await world.writes.wait_until_recorded()


@on_virtual_time
async def test_a_read_waits_for_events_captured_in_a_recreated_stream() -> None:
    world, captures = World(), FakeCaptureSubscription()
    world.recorder.use_captures(captures)
    await world.recorder.record_missed([captured(age=0, position=1000)])
    for position, plan in ((1, "max"), (2, "mega")):
        captures.last = position
        reading = asyncio.create_task(world.writes.wait_until_recorded())
        await settle()
        assert not reading.done()
        await world.recorder.record_missed([captured(age=0, position=position, plan=plan)])
        await reading
        assert world.visible_properties() == {"plan": plan}
    # A redelivered message is not mistaken for a recreated stream.
    await world.recorder.record_missed([captured(age=1, position=1)])
    began = now()
    await world.writes.wait_until_recorded()
    assert now() == began


@on_virtual_time
async def test_events_captured_while_the_reader_lagged_are_recorded_when_read() -> None:
    world, captures = World(), FakeCaptureSubscription()
    world.recorder.use_captures(captures)
    world.recorder.mark_subscribed()
    world.recorder._subscribed_at -= timedelta(hours=1)
    await world.recorder.record_missed([captured(age=0)])
    await world.recorder.record_missed([captured(age=60)])
    # Published before the subscription, and not read from the stream until now.
    await world.recorder.record_missed([captured(age=30, user="u_43")])
    assert world.visible_properties("u_43") == {"plan": "pro"}


@on_virtual_time
async def test_only_one_read_waits_for_a_stream_that_is_no_longer_read() -> None:
    world, captures = World(), FakeCaptureSubscription()
    world.recorder.use_captures(captures)
    await world.recorder.record_missed([captured(age=0)])
    captures.last = 2
    for waited in (1, 0):
        began = now()
        await world.writes.wait_until_recorded()
        assert now() - began == waited
    assert captures.receives_captures
    # An event that was captured in between is recorded when it is read.
    await world.recorder.record_missed([captured(age=0, user="u_43", position=2)])
    assert world.visible_properties("u_43") == {"plan": "pro"}
