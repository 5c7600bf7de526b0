"""A reported event is stored and published before the reply, and stored once if repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from hogsend.contract.engagement import Engagement
from hogsend.contract.errors import InvalidRequest, PublishRejected, TooLarge, Unavailable
from hogsend.contract.events import RecordEvent
from hogsend.service.activity import total
from hogsend.service.dead_letters import Unprocessable
from hogsend.transport.publisher import OutgoingMessage
from services.ingest import metrics
from services.ingest.erasure.freshness import FRESH_SECONDS
from services.ingest.events.event_message import event_message
from services.ingest.events.outcome import Outcome, Rejected
from services.ingest.events.recording import Recorder
from services.ingest.incoming_event import IncomingEvent, reported_id
from tests.unit.ingest.fakes import NOW, FakePublisher, FakeStore, Journal, incoming
from tests.virtual_time import on_virtual_time


class Reports:
    """A recorder with the fakes that it calls."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.store = FakeStore(self.journal)
        self.publisher = FakePublisher(self.journal)
        self.recorder = Recorder(self.store, self.publisher)

    async def report(self, **fields: Any) -> Any:
        event = {"event": "e", "user_id": "u_1", "idempotency_key": "k-1", **fields}
        return await self.recorder.record(RecordEvent(received_at=NOW, **event), "c-1")


@pytest.fixture
def reports() -> Reports:
    return Reports()


async def test_a_reported_event_is_stored_and_published_before_the_reply(reports: Reports) -> None:
    occurred = NOW - timedelta(hours=1)
    recorded = await reports.report(
        properties={"plan": "pro"}, contact_properties={"tier": "gold"}, occurred_at=occurred
    )
    assert (recorded.id, recorded.stored, recorded.contact_key) == ("k-1", True, "u_1")
    assert reports.journal == ["commit k-1", "publish k-1"]
    (event,) = reports.publisher.events()
    assert (event.source, event.occurred_at, event.received_at) == ("hogsend", occurred, NOW)
    assert (event.properties, event.person_properties) == ({"plan": "pro"}, {"tier": "gold"})


@on_virtual_time
async def test_an_event_of_a_person_erased_before_it_is_published_is_not_published() -> None:
    reports = Reports()
    save = reports.store.save

    async def save_late(events: Sequence[IncomingEvent]) -> list[Outcome]:
        outcomes = await save(events)
        await asyncio.sleep(FRESH_SECONDS)
        return outcomes

    reports.store.erased_since = {"k-1"}
    with patch.object(reports.store, "save", save_late):
        recorded = await reports.report()
    assert (recorded.stored, recorded.contact_key) == (False, "")
    assert reports.journal == ["commit k-1"]


@on_virtual_time
async def test_an_event_of_a_person_erased_after_publishing_is_not_sent_to_destinations() -> None:
    reports = Reports()
    publish = reports.publisher.publish

    async def publish_late(message: OutgoingMessage, **within: float) -> None:
        await publish(message, **within)
        await asyncio.sleep(FRESH_SECONDS)

    reports.store.erased_since = {"k-1"}
    with patch.object(reports.publisher, "publish", publish_late):
        await reports.report(event="email.opened")
    assert [message.subject for message in reports.publisher.published.values()] == [
        "hogsend.events.email%2Eopened"
    ]


async def test_an_event_without_a_key_and_a_time_gets_both(reports: Reports) -> None:
    first = await reports.report(idempotency_key=None)
    second = await reports.report(idempotency_key=None)
    assert first.stored
    assert second.stored
    assert first.id != second.id
    assert {event.occurred_at for event in reports.publisher.events()} == {NOW}


async def test_case_151_an_event_with_a_repeated_key_is_stored_once_and_published_again(
    reports: Reports,
) -> None:
    """The call that stored the event may have ended before publishing it."""
    reports.publisher.errors = [Unavailable("NATS is not connected")]
    with pytest.raises(Unavailable):
        await reports.report()
    assert reports.publisher.events() == []
    assert not (await reports.report()).stored
    assert len(reports.publisher.events()) == 1


async def test_an_event_of_the_engagement_catalog_is_also_published_for_destinations(
    reports: Reports,
) -> None:
    published = total(metrics.PUBLISHED)
    await reports.report(event="email.opened", user_id="", email="a@b.com", properties={"n": 1})
    # The message for destinations does not count as a published event.
    assert total(metrics.PUBLISHED) == published + 1
    message = list(reports.publisher.published.values())[-1]
    assert message.subject == "hogsend.engagement.email.opened"
    assert message.headers["Hogsend-Correlation-Id"] == "c-1"
    engagement = msgspec.json.decode(message.body, type=Engagement)
    assert (engagement.id, engagement.type) == (reported_id("k-1", "", "a@b.com"), "email.opened")
    assert engagement.data == {"n": 1, "userId": "", "to": "a@b.com"}


def test_the_id_of_a_report_includes_the_email_if_no_user_id_identifies_the_person() -> None:
    assert reported_id("k-1", "u_1", "a@b.com") == "k-1"
    assert reported_id("k-1", "null", None) == "k-1"
    first, second = reported_id("k-1", "", "a@b.com"), reported_id("k-1", "null", "b@b.com")
    assert first.startswith("k-1:")
    assert first != second
    # Engagement accepts ids of at most 128 characters.
    long, longer = (reported_id("k" * length, "", "a@b.com") for length in (115, 116))
    assert (len(long), long.startswith("k")) == (128, True)
    assert len(longer) < 128
    assert longer.rpartition(":")[2] == first.rpartition(":")[2]


async def test_the_properties_of_a_report_override_the_identities_of_its_person(
    reports: Reports,
) -> None:
    await reports.report(event="email.opened", email="a@b.com", properties={"to": "other@b.com"})
    engagement = msgspec.json.decode(
        list(reports.publisher.published.values())[-1].body, type=Engagement
    )
    assert engagement.data == {"to": "other@b.com", "userId": "u_1"}


async def test_an_event_without_identity_is_refused_and_not_stored(reports: Reports) -> None:
    with pytest.raises(InvalidRequest, match="userId or email"):
        await reports.report(user_id=" ")
    assert reports.journal == []


async def test_an_email_is_folded_and_a_placeholder_user_id_is_kept(reports: Reports) -> None:
    await reports.report(user_id="null", email=" Mara@Example.com")
    (event,) = reports.publisher.events()
    assert (event.user_id, event.email) == ("null", "mara@example.com")


async def test_an_event_that_the_database_rejects_is_refused_and_not_published(
    reports: Reports,
) -> None:
    reports.store.outcomes["k-1"] = Rejected(Unprocessable("rejected_by_database", "no"))
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        await reports.report()
    assert reports.publisher.published == {}


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (TooLarge("2 MiB"), InvalidRequest),
        (PublishRejected("sealed"), Unavailable),
        (Unavailable("no acknowledgement"), Unavailable),
    ],
    ids=lambda error: getattr(error, "__name__", type(error).__name__),
)
async def test_a_report_whose_event_cannot_be_published_fails(
    reports: Reports, refusal: TooLarge | PublishRejected | Unavailable, error: type[Exception]
) -> None:
    reports.publisher.refusals["k-1"] = [refusal]
    with pytest.raises(error):
        await reports.report()


async def test_a_posthog_uuid_and_an_equal_idempotency_key_are_different_events(
    reports: Reports,
) -> None:
    posthog = incoming("k-1", "e", "u_1")
    await reports.store.save([posthog])
    await reports.publisher.publish(event_message(posthog, "u_1"), within=1.0)
    assert (await reports.report()).stored
    assert [event.source for event in reports.publisher.events()] == ["posthog", "hogsend"]


@pytest.mark.parametrize("other", [{"event": "other"}, {"user_id": "u_2"}])
async def test_one_idempotency_key_may_be_used_for_another_event_and_another_user(
    reports: Reports, other: dict[str, str]
) -> None:
    first = await reports.report()
    second = await reports.report(**other)
    assert (first.id, second.id, second.stored) == ("k-1", "k-1", True)
    keys = [event.key for event in reports.publisher.events()]
    assert len(set(keys)) == 2


@pytest.mark.parametrize("year", [1, 9999])
async def test_a_time_out_of_range_is_replaced_by_the_time_of_receipt(
    reports: Reports, year: int
) -> None:
    beyond = datetime(year, 1, 1, tzinfo=UTC) if year == 1 else datetime.max.replace(tzinfo=UTC)
    await reports.report(occurred_at=beyond)
    (event,) = reports.publisher.events()
    assert event.occurred_at == NOW


async def test_nul_in_a_report_is_replaced(reports: Reports) -> None:
    await reports.report(event="a\0b", properties={"k\0": ["\0"]})
    (event,) = reports.publisher.events()
    assert (event.event, event.properties) == ("a\ufffdb", {"k\ufffd": ["\ufffd"]})
