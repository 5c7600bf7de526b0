"""Which past events of a backfill are published to subscribers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from unittest.mock import AsyncMock, Mock

import pytest

from hogsend.contract.backfills import PastEvent, PastStored, StorePast
from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.metrics import FAILURES
from hogsend.transport.pending_acks import Outcome as PublishOutcome
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.events.outcome import Outcome, Rejected, Saved, Status
from services.ingest.events.past_events import PastEvents
from services.ingest.events.store import EventStore
from services.ingest.metrics import PUBLISHED

AT = datetime(2026, 1, 1, tzinfo=UTC)


async def record(
    outcome: Outcome,
    *,
    announce: bool,
    erased: Collection[int] = (),
    published: PublishOutcome = None,
    distinct_id: str = "ada",
) -> tuple[PastStored, Sequence[OutgoingMessage]]:
    """Store one past event; return the reply, and the messages that were published."""
    store, publisher = Mock(EventStore), Mock(Publisher)
    store.save = AsyncMock(return_value=[outcome])
    store.find_erased = AsyncMock(return_value=set(erased))
    publisher.publish_all = AsyncMock(side_effect=lambda messages: [published for _ in messages])
    event = PastEvent("u-1", "signed_up", distinct_id, AT, {})
    reply = await PastEvents(store, publisher).record(StorePast([event], AT, announce))
    calls = publisher.publish_all.await_args_list
    return reply, calls[0].args[0] if calls else []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.STORED, PastStored(stored=1, known=0, rejected=0)),
        # The previous call may have ended between the commit and publishing.
        (Status.REDELIVERED, PastStored(stored=1, known=0, rejected=0)),
        (Status.KNOWN, PastStored(stored=0, known=1, rejected=0)),
        (Status.ERASED, PastStored(stored=0, known=1, rejected=0)),
    ],
)
async def test_an_event_that_is_stored_already_or_erased_is_not_announced(
    status: Status, expected: PastStored
) -> None:
    outcome = Saved(status, "ada")
    reply, published = await record(outcome, announce=True)
    assert (reply, len(published)) == (expected, expected.stored)
    assert await record(outcome, announce=False) == (expected, [])


async def test_a_past_event_that_the_database_rejects_is_counted() -> None:
    reply, published = await record(Rejected(Unprocessable("too_large", "x")), announce=True)
    assert (reply, published) == (PastStored(stored=0, known=0, rejected=1), [])


async def test_an_event_of_a_person_erased_after_the_commit_is_not_announced() -> None:
    outcome = Saved(Status.STORED, "ada")
    assert (await record(outcome, announce=True, erased=[0]))[1] == []


async def test_a_backfill_repeats_its_request_while_the_stream_rejects_an_event() -> None:
    outcome = Saved(Status.STORED, "ada")
    with pytest.raises(Unavailable, match="the stream is sealed"):
        await record(outcome, announce=True, published=PublishRejected("the stream is sealed"))


async def test_a_past_event_too_large_for_the_bus_is_stored_and_counted_as_a_failure() -> None:
    failures = FAILURES.labels("past_events", TooLarge.code)._value
    before = failures.get(), PUBLISHED._value.get()
    outcome = Saved(Status.STORED, "ada")
    reply, _ = await record(outcome, announce=True, published=TooLarge("2 MiB"))
    assert reply == PastStored(stored=1, known=0, rejected=0)
    assert (failures.get(), PUBLISHED._value.get()) == (before[0] + 1, before[1])


async def test_a_past_event_without_an_identity_is_rejected_without_failing_its_page() -> None:
    reply, published = await record(Saved(Status.STORED, ""), announce=True, distinct_id="")
    assert (reply, published) == (PastStored(stored=0, known=0, rejected=1), [])
