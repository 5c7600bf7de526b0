"""Which events of the past are announced."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from unittest.mock import AsyncMock, Mock

import pytest

from hogsend.contract.backfills import PastEvent, PastStored, StorePast
from hogsend.service.dead_letters import Unprocessable
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.events.outcome import Outcome, Rejected, Saved, Status
from services.ingest.events.past_events import PastEvents
from services.ingest.events.store import EventStore

AT = datetime(2026, 1, 1, tzinfo=UTC)


async def record(
    outcome: Outcome, *, announce: bool, gone: Collection[int] = ()
) -> tuple[PastStored, Sequence[OutgoingMessage]]:
    """What is answered, and what is published, of one event."""
    store, publisher = Mock(EventStore), Mock(Publisher)
    store.save = AsyncMock(return_value=[outcome])
    store.find_erased = AsyncMock(return_value=set(gone))
    publisher.publish_all = AsyncMock(return_value=[])
    event = PastEvent("u-1", "signed_up", "ada", AT, {})
    answer = await PastEvents(store, publisher).record(StorePast([event], AT, announce))
    calls = publisher.publish_all.await_args_list
    return answer, calls[0].args[0] if calls else []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (Status.STORED, PastStored(stored=1, known=0, rejected=0)),
        # The call before may have ended between commit and publishing.
        (Status.REDELIVERED, PastStored(stored=1, known=0, rejected=0)),
        (Status.KNOWN, PastStored(stored=0, known=1, rejected=0)),
        (Status.ERASED, PastStored(stored=0, known=1, rejected=0)),
    ],
)
async def test_what_is_known_or_erased_is_not_announced(status: Status, answer: PastStored) -> None:
    outcome = Saved(status, "ada")
    told, published = await record(outcome, announce=True)
    assert (told, len(published)) == (answer, answer.stored)
    assert await record(outcome, announce=False) == (answer, [])


async def test_what_the_database_does_not_take_is_counted() -> None:
    told, published = await record(Rejected(Unprocessable("too_large", "x")), announce=True)
    assert (told, published) == (PastStored(stored=0, known=0, rejected=1), [])


async def test_whoever_is_erased_before_it_is_announced_stays_so() -> None:
    outcome = Saved(Status.STORED, "ada")
    assert (await record(outcome, announce=True, gone=[0]))[1] == []
