"""A batch that PostgreSQL refuses is halved until the event at fault is alone."""

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
    """Commits batches, unless one of `errors` is for one of its events."""

    def __init__(self, **errors: list[Exception]) -> None:
        self.errors = errors
        self.committed: list[str] = []

    async def _save_in_transaction(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        for event in events:
            if errors := self.errors.get(event.ref.id):
                raise errors.pop(0)
        self.committed += [event.ref.id for event in events]
        return [Saved(Status.STORED, f"contact of {event.ref.id}") for event in events]


def of_a_constraint(name: str) -> Exception:
    error = asyncpg.CheckViolationError("refused")
    # As asyncpg sets it from what PostgreSQL answers.
    vars(error)["constraint_name"] = name
    return error


def always(error: Exception) -> list[Exception]:
    return [error] * 100


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError("numeric field overflow"),
        of_a_constraint("events_event_check"),
        asyncpg.ProgramLimitExceededError("index row too large"),
        ValueError("year is out of range"),
        RecursionError("nested too deep"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_only_the_events_at_fault_are_rejected(error: Exception) -> None:
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


async def test_an_outage_is_no_events_fault() -> None:
    store = Transactions(b=always(asyncpg.CannotConnectNowError("starting up")))
    with pytest.raises(Unavailable):
        await store.save([incoming(id) for id in "abc"])
    assert store.committed == []


async def test_an_outage_between_the_halves_is_raised_although_one_is_stored() -> None:
    store = Transactions(
        c=[asyncpg.DataError("refused"), asyncpg.AdminShutdownError("shutting down")]
    )
    with pytest.raises(Unavailable):
        await store.save([incoming(id) for id in "abcd"])
    assert store.committed == ["a", "b"]


@pytest.mark.parametrize(
    "conflict", [ContactsMoved(), asyncpg.DeadlockDetectedError(), asyncpg.SerializationError()]
)
async def test_a_conflict_with_another_transaction_is_repeated_whole(conflict: Exception) -> None:
    store = Transactions(b=[conflict, conflict])
    await store.save([incoming(id) for id in "ab"])
    assert store.committed == ["a", "b"]
