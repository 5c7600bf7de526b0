"""Events in PostgreSQL: rows that tests write themselves, and what became of those stored."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from services.ingest.event_table import partitions
from services.ingest.events.outcome import Outcome, Saved, Status

_CENTURY = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def make_room(connection: Any) -> None:
    """Make one partition for whatever a test inserts into a new database's `events`."""
    await partitions.make(connection, *_CENTURY)


def statuses(outcomes: Iterable[Outcome]) -> list[Status]:
    """What became of the events that were not rejected, in order."""
    return [outcome.status for outcome in outcomes if isinstance(outcome, Saved)]
