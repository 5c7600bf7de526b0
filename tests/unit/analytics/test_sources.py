"""Which events each source captures, in which project, and which messages it ignores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from hogsend.contract.credentials import ProjectReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.events import Event
from hogsend.contract.headers import DESTINATION, MESSAGE_ID, ORIGINAL_ID, RECEIVED_AT, format_time
from hogsend.contract.persons import position_id
from hogsend.posthog.capture import Captured
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.delivery.sources.buckets import BucketsSource
from services.analytics.delivery.sources.destination import DestinationSource
from services.analytics.delivery.sources.mirror import MirrorSource
from services.analytics.delivery.sources.persons import PersonsSource
from services.analytics.delivery.sources.source import Skipped, Source
from services.analytics.destinations.store import Outcome
from services.analytics.project_key import Project, ProjectKey
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.delivery_fakes import QUEUED_AT, FakeMessage
from tests.unit.analytics.fake_destinations import FakeStore, destination
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import on_virtual_time

NO_KEY: dict[str, str] = {}
KEY = {"posthog_api_key": "phc_env", "posthog_host": "https://eu.i.posthog.com"}
MALFORMED = [b"{", b"[]", b"\xff", b'{"data": 5}']


def project_key(posthog: dict[str, str]) -> ProjectKey:
    link = FakeLink()
    FakeCredentials(link, project=ProjectReply(0, "absent"))
    stored = StoredProject(link, CredentialWatcher("posthog"))
    return ProjectKey(PostHogSettings.model_validate(posthog), stored)


def message(subject: str, document: Any, **headers: str) -> FakeMessage:
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return FakeMessage(7, subject=f"hogsend.{subject}", body=body, headers=headers)


def captured(source: Source, subject: str, document: Any, **headers: str) -> Captured:
    event = source.read(message(subject, document, **headers))
    assert event is not None
    return event


def uuid_of(source: Source, verb: str, *, headers: Any = None, **more: Any) -> UUID:
    """Return the uuid of the event as which a message of `verb` is captured."""
    place = {name: more.pop(name) for name in ("position", "queued_at") if name in more}
    document = {"distinctId": "u_1", "set": {"a": 1}, "event": "upgraded", "alias": "anon", **more}
    event = source.read(
        FakeMessage(
            **{"position": 7, **place},
            subject=f"hogsend.persons.{verb}",
            body=msgspec.json.encode(document),
            headers=headers or {},
        )
    )
    assert event is not None
    return event.uuid


class TestPersons:
    source = PersonsSource(project_key(KEY))

    def test_requests_of_services_are_captured_as_events(self) -> None:
        change = {"distinctId": "u_1", "set": {"plan": "pro"}}
        assert captured(self.source, "persons.set", change).event == "$set"
        event = {"distinctId": "u_1", "event": "upgraded"}
        assert captured(self.source, "persons.capture", event).event == "upgraded"
        alias = {"distinctId": "u_1", "alias": "anon"}
        assert captured(self.source, "persons.alias", alias).event == "$create_alias"

    def test_a_byte_order_mark_is_ignored(self) -> None:
        change = b'\xef\xbb\xbf{"distinctId": "u_1", "set": {"plan": "pro"}}'
        assert captured(self.source, "persons.set", change).distinct_id == "u_1"

    def test_an_event_without_a_timestamp_has_the_time_at_which_its_message_was_queued(
        self,
    ) -> None:
        event = {"distinctId": "u_1", "event": "upgraded"}
        assert captured(self.source, "persons.capture", event).timestamp == QUEUED_AT
        # A replayed dead letter has the time of receipt in a header.
        first = QUEUED_AT - timedelta(days=1)
        replayed = FakeMessage(
            7,
            subject="hogsend.persons.capture",
            body=msgspec.json.encode(event),
            headers={RECEIVED_AT: format_time(first)},
        )
        event_again = self.source.read(replayed)
        assert event_again is not None
        assert event_again.timestamp == first

    @pytest.mark.parametrize("verb", ["set", "capture", "alias"])
    def test_an_event_without_an_id_has_the_same_uuid_at_every_delivery(self, verb: str) -> None:
        uuids = [
            uuid_of(self.source, verb),
            uuid_of(self.source, verb, position=8),
            # A recreated stream.
            uuid_of(self.source, verb, queued_at=QUEUED_AT + timedelta(days=1)),
            uuid_of(self.source, verb, headers={MESSAGE_ID: "order-42"}),
            uuid_of(self.source, verb, headers={MESSAGE_ID: "order-43"}),
        ]
        assert len(set(uuids)) == 5
        assert uuid_of(self.source, verb) == uuids[0]
        # The message's id stays the same when it is published again, and when it is replayed.
        again = {ORIGINAL_ID: "order-42", MESSAGE_ID: "replay:1"}
        assert uuid_of(self.source, verb, position=9, headers=again) == uuids[3]
        # A dead letter of a message without an id has the original position.
        place = {ORIGINAL_ID: position_id(7, QUEUED_AT), MESSAGE_ID: "replay:2"}
        assert uuid_of(self.source, verb, position=9, headers=place) == uuids[0]
        later = QUEUED_AT + timedelta(days=1)
        repeated = {MESSAGE_ID: "order-42"}
        assert uuid_of(self.source, verb, position=9, queued_at=later, headers=repeated) == uuids[3]

    @pytest.mark.parametrize("verb", ["set", "capture", "alias"])
    def test_the_id_in_a_message_is_the_uuid_of_the_event(self, verb: str) -> None:
        id = uuid4()
        headers = {MESSAGE_ID: "order-42"}
        assert uuid_of(self.source, verb, id=str(id), headers=headers) == id
        assert uuid_of(self.source, verb, id=None) == uuid_of(self.source, verb)

    def test_the_same_message_id_on_two_subjects_is_two_events(self) -> None:
        headers = {MESSAGE_ID: "order-42"}
        uuids = {uuid_of(self.source, verb, headers=headers) for verb in ("set", "capture")}
        assert len(uuids) == 2

    @pytest.mark.parametrize("verb", ["set", "capture", "alias"])
    @pytest.mark.parametrize(
        ("timestamp", "expected"),
        [
            ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            # As with engagement: without an offset it is UTC, and leap seconds are times.
            ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            (" 2026-01-02 ", datetime(2026, 1, 2, tzinfo=UTC)),
            ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
            # A time out of range is replaced by the time of receipt.
            ("0001-01-01T00:00:00Z", QUEUED_AT),
            ("0001-01-01T00:00:00+14:00", QUEUED_AT),
            ("9999-12-31T23:59:59-14:00", QUEUED_AT),
            ("9999-12-31T23:59:60Z", QUEUED_AT),
            (None, QUEUED_AT),
        ],
    )
    def test_a_timestamp_is_converted_to_utc_or_replaced_if_out_of_range(
        self, verb: str, timestamp: str | None, expected: datetime
    ) -> None:
        document = {
            "distinctId": "u_1",
            "set": {"plan": "pro"},
            "event": "upgraded",
            "alias": "anon",
            "timestamp": timestamp,
        }
        event = captured(self.source, f"persons.{verb}", document)
        assert event.timestamp == expected
        assert event.timestamp.utcoffset() == timedelta(0)

    @pytest.mark.parametrize("timestamp", ["soon", "", 7, "2026-13-01T00:00:00Z", "infinity"])
    def test_an_invalid_timestamp_makes_a_dead_letter(self, timestamp: object) -> None:
        document = {"distinctId": "u_1", "event": "upgraded", "timestamp": timestamp}
        with pytest.raises(Unprocessable, match="timestamp"):
            self.source.read(message("persons.capture", document))

    @pytest.mark.parametrize(
        "value", [b"[1e308%b]" % (b",1e308" * 10_000), b"[" * 501 + b"]" * 501]
    )
    def test_too_deep_json_and_too_many_large_numbers_make_a_dead_letter(
        self, value: bytes
    ) -> None:
        body = b'{"event": "e", "distinctId": "u_1", "properties": {"a": %b}}' % value
        with pytest.raises(Unprocessable, match="too"):
            self.source.read(message("persons.capture", body))

    @pytest.mark.parametrize("body", [*MALFORMED, b'{"event": "e", "distinctId": " "}'])
    def test_a_malformed_message_is_a_dead_letter(self, body: bytes) -> None:
        with pytest.raises(Unprocessable) as caught:
            self.source.read(message("persons.capture", body))
        assert caught.value.reason == "malformed"

    @pytest.mark.parametrize(
        ("verb", "name"),
        [
            ("set", "distinctId"),
            ("capture", "distinctId"),
            ("capture", "event"),
            ("alias", "distinctId"),
            ("alias", "alias"),
        ],
    )
    def test_an_id_that_posthog_would_truncate_makes_a_dead_letter(
        self, verb: str, name: str
    ) -> None:
        document = {"distinctId": "u_1", "set": {"a": 1}, "event": "upgraded", "alias": "anon"}
        longest = message(f"persons.{verb}", {**document, name: "x" * 200})
        assert self.source.read(longest) is not None
        with pytest.raises(Unprocessable) as caught:
            self.source.read(message(f"persons.{verb}", {**document, name: "x" * 201}))
        assert caught.value.reason == "malformed"

    def test_an_unknown_verb_is_a_dead_letter(self) -> None:
        with pytest.raises(Unprocessable, match="nonsense") as caught:
            self.source.read(message("persons.nonsense", {}))
        assert caught.value.reason == "unknown_verb"

    @on_virtual_time
    async def test_person_events_are_captured_into_the_project_of_the_instance(self) -> None:
        assert await self.source.project() == Project("phc_env", "https://eu.i.posthog.com")
        assert await PersonsSource(project_key(NO_KEY)).project() is None


class TestBuckets:
    source = BucketsSource(project_key(KEY))

    def test_a_bucket_with_sync_to_posthog_is_mirrored(self) -> None:
        entered = {"data": {"bucketId": "vip", "userId": "u_1", "syncToPostHog": True}}
        event = captured(self.source, "engagement.bucket.entered", entered)
        assert event.properties["$set"] == {"hogsend_bucket_vip": True}

    @pytest.mark.parametrize("body", MALFORMED)
    def test_a_malformed_message_is_skipped_and_left_to_ingest(self, body: bytes) -> None:
        assert self.source.read(message("engagement.bucket.entered", body)) is None

    def test_an_id_that_posthog_would_truncate_makes_a_dead_letter(self) -> None:
        entered = {"data": {"bucketId": "vip", "userId": "x" * 201, "syncToPostHog": True}}
        with pytest.raises(Unprocessable) as caught:
            self.source.read(message("engagement.bucket.entered", entered))
        assert caught.value.reason == "no_identity"


class TestMirror:
    def event(self, name: str = "feature.used", source: str = "hogsend") -> dict[str, Any]:
        event = Event(
            id="e_1",
            event=name,
            user_id="u",
            contact_key="u",
            source=source,
            occurred_at=QUEUED_AT,
            received_at=QUEUED_AT,
            properties={"value": 149.99, "currency": "gbp"},
        )
        document: dict[str, Any] = msgspec.to_builtins(event)
        return document

    def names(self, source: MirrorSource, *events: dict[str, Any]) -> list[str]:
        read = [source.read(message("events.any", event)) for event in events]
        return [captured.event for captured in read if captured is not None]

    def test_case_149_a_mirrored_event_keeps_its_value_and_currency(self) -> None:
        event = captured(MirrorSource(project_key(KEY), (), ()), "events.any", self.event())
        assert (event.properties["value"], event.properties["currency"]) == (149.99, "GBP")

    def test_an_event_without_a_contact_is_not_mirrored(self) -> None:
        without_contact = {**self.event(), "contactKey": ""}
        assert self.names(MirrorSource(project_key(KEY), (), ()), without_contact) == []

    def test_a_lone_surrogate_is_replaced(self) -> None:
        body = msgspec.json.encode(self.event("cut #")).replace(b"#", rb"\ud83d")
        event = MirrorSource(project_key(KEY), (), ()).read(message("events.any", body))
        assert event is not None
        assert event.event == "cut \ufffd"

    def test_cases_122_and_151_an_event_from_posthog_is_never_sent_back(self) -> None:
        source = MirrorSource(project_key(KEY), ("feature.used",), ())
        assert self.names(source, self.event(source="posthog")) == []

    def test_an_event_that_destinations_send_is_not_mirrored(self) -> None:
        source = MirrorSource(project_key(KEY), (), ())
        assert self.names(source, self.event("email.opened"), self.event()) == ["feature.used"]

    def test_case_150_allow_and_deny_lists_select_the_mirrored_events(self) -> None:
        events = [self.event("a"), self.event("b"), self.event("c")]
        key = project_key(KEY)
        assert self.names(MirrorSource(key, (), ("b",)), *events) == ["a", "c"]
        assert self.names(MirrorSource(key, ("b",), ()), *events) == ["b"]
        assert self.names(MirrorSource(key, ("a", "b"), ("b",)), *events) == ["a"]

    def test_a_malformed_event_is_a_dead_letter(self) -> None:
        with pytest.raises(Unprocessable):
            MirrorSource(project_key(KEY), (), ()).read(message("events.any", b"{"))


OPENED = {"data": {"userId": "u_1", "to": "a@b.com"}}


class TestDestination:
    def source(
        self, posthog: dict[str, str] = KEY, *, default_enabled: bool = True, **changes: Any
    ) -> DestinationSource:
        self.store = FakeStore()
        return DestinationSource(
            destination(**changes),
            project_key(posthog),
            self.store,
            default_enabled=default_enabled,
        )

    def test_a_destination_captures_only_its_event_types(self) -> None:
        source = self.source(event_types=["email.opened"])
        assert captured(source, "engagement.email.opened", OPENED).distinct_id == "u_1"
        assert source.read(message("engagement.email.sent", OPENED)) is None

    def test_a_change_of_a_destination_applies_to_the_next_message(self) -> None:
        source = self.source(event_types=["email.opened"])
        source.destination = destination(
            id=source.destination.id, given={"eventNames": {"email.opened": "opened"}}
        )
        assert captured(source, "engagement.email.opened", OPENED).event == "opened"

    def test_case_147_an_addressed_event_is_for_its_destination_only(self) -> None:
        source = self.source(event_types=["email.opened"])
        own = {DESTINATION: str(source.destination.id)}
        foreign = {DESTINATION: str(uuid4())}
        assert captured(source, "engagement.webhook.test", OPENED, **own).event == "webhook.test"
        assert source.read(message("engagement.email.opened", OPENED, **foreign)) is None
        assert source.dead_letter_headers == own

    def test_cases_129_and_134_an_event_without_a_mapping_is_skipped(self) -> None:
        source = self.source(event_types=["contact.deleted"])
        with pytest.raises(Skipped):
            source.read(message("engagement.contact.deleted", {"data": {"externalId": "u_1"}}))

    @pytest.mark.parametrize("data", [{}, {"userId": "x" * 201}])
    def test_an_event_without_a_person_is_a_dead_letter(self, data: dict[str, Any]) -> None:
        with pytest.raises(Unprocessable) as caught:
            self.source().read(message("engagement.email.opened", {"data": data}))
        assert caught.value.reason == "no_identity"

    @pytest.mark.parametrize("body", MALFORMED)
    def test_a_malformed_message_is_skipped_and_left_to_ingest(self, body: bytes) -> None:
        assert self.source().read(message("engagement.email.opened", body)) is None

    @pytest.mark.parametrize(
        ("given", "project"),
        [
            ({}, Project("phc_env", "https://eu.i.posthog.com")),
            ({"apiKey": "phc_own"}, Project("phc_own", "https://eu.i.posthog.com")),
            (
                {"host": "https://eu.i.posthog.com/"},
                Project("phc_env", "https://eu.i.posthog.com/"),
            ),
            ({"apiKey": "phc_own", "host": "https://x.y"}, Project("phc_own", "https://x.y")),
        ],
    )
    @on_virtual_time
    async def test_the_key_and_host_of_a_destination_precede_those_of_the_instance(
        self, given: dict[str, str], project: Project
    ) -> None:
        assert await self.source(given=given).project() == project

    @on_virtual_time
    async def test_the_key_of_the_instance_is_not_sent_to_another_host(self) -> None:
        with pytest.raises(Unprocessable, match="apiKey"):
            await self.source(given={"host": "https://x.y"}).project()

    @on_virtual_time
    async def test_refresh_applies_the_stored_destination(self) -> None:
        source = self.source(given={"apiKey": "phc_own"})
        stored = msgspec.structs.replace(source.destination, disabled=True)
        self.store.rows[stored.id] = stored
        await source.refresh()
        assert await source.project() is None
        self.store.rows[stored.id] = msgspec.structs.replace(stored, disabled=False)
        await source.refresh()
        assert await source.project() is not None
        del self.store.rows[stored.id]
        await source.refresh()
        assert await source.project() is None

    @on_virtual_time
    async def test_case_141_a_destination_without_any_key_is_not_configured(self) -> None:
        with pytest.raises(Unprocessable, match="apiKey") as caught:
            await self.source(NO_KEY).project()
        assert caught.value.reason == "not_configured"

    @on_virtual_time
    async def test_case_143_a_disabled_destination_has_no_project(self) -> None:
        assert await self.source(given={"apiKey": "phc_own"}, disabled=True).project() is None

    @on_virtual_time
    async def test_the_default_destination_has_no_project_without_a_key_or_when_switched_off(
        self,
    ) -> None:
        assert await self.source(NO_KEY, is_default=True).project() is None
        assert await self.source(is_default=True, default_enabled=False).project() is None
        assert await self.source(is_default=True).project() is not None

    @on_virtual_time
    async def test_outcomes_are_recorded_in_the_history_of_the_destination(self) -> None:
        source = self.source()
        outcome = Outcome(event_id="1", event_type="t", status="delivered", attempts=1)
        await source.record([outcome])
        assert self.store.history == {source.destination.id: [outcome]}
        self.store.down = True
        with pytest.raises(Unavailable):
            await source.record([outcome])
