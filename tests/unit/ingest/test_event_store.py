"""A batch that PostgreSQL refuses is halved until the refused event is alone."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import pytest

from hogsend.contract.errors import Unavailable
from services.ingest.contacts.storage import ContactsMoved
from services.ingest.events.outcome import Outcome, Rejected, Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import IncomingEvent
from tests.unit.ingest.fakes import incoming


class Transactions(EventStore):
    """Commits a batch, unless `errors` has an error for the id of one of its events."""

    def __init__(self, **errors: list[Exception]) -> None:
        self.errors = errors
        self.committed: list[str] = []

    async def _save_in_transaction(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        for event in events:
            if errors := self.errors.get(event.ref.id):
                raise errors.pop(0)
        self.committed += [event.ref.id for event in events]
        return [Saved(Status.STORED, f"contact of {event.ref.id}") for event in events]


def check_violation(name: str) -> Exception:
    error = asyncpg.CheckViolationError("refused")
    # asyncpg sets this attribute from PostgreSQL's error message.
    vars(error)["constraint_name"] = name
    return error


def always(error: Exception) -> list[Exception]:
    return [error] * 100


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError("numeric field overflow"),
        check_violation("events_event_check"),
        asyncpg.ProgramLimitExceededError("index row too large"),
        ValueError("year is out of range"),
        RecursionError("nested too deep"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_only_the_events_that_postgresql_refuses_are_rejected(error: Exception) -> None:
    store = Transactions(c=always(error), f=always(error))
    outcomes = await store.save([incoming(id) for id in "abcdefgh"])
    assert store.committed == ["a", "b", "d", "e", "g", "h"]
    for id, outcome in zip("abcdefgh", outcomes, strict=True):
        if id in "cf":
            assert isinstance(outcome, Rejected)
            assert outcome.why.reason == "rejected_by_database"
            assert str(outcome.why) == f"{type(error).__name__}: {error}"
        else:
            assert outcome == Saved(Status.STORED, f"contact of {id}")


async def test_an_outage_of_postgresql_rejects_no_event() -> None:
    store = Transactions(b=always(asyncpg.CannotConnectNowError("starting up")))
    with pytest.raises(Unavailable):
        await store.save([incoming(id) for id in "abc"])
    assert store.committed == []


async def test_an_outage_between_the_halves_is_raised_although_one_half_is_stored() -> None:
    store = Transactions(
        c=[asyncpg.DataError("refused"), asyncpg.AdminShutdownError("shutting down")]
    )
    with pytest.raises(Unavailable):
        await store.save([incoming(id) for id in "abcd"])
    assert store.committed == ["a", "b"]


@pytest.mark.parametrize(
    "conflict", [ContactsMoved(), asyncpg.DeadlockDetectedError(), asyncpg.SerializationError()]
)
async def test_a_batch_that_conflicts_with_another_transaction_is_retried_as_a_whole(
    conflict: Exception,
) -> None:
    store = Transactions(b=[conflict, conflict])
    await store.save([incoming(id) for id in "ab"])
    assert store.committed == ["a", "b"]
