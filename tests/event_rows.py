"""Helpers for tests that insert events into PostgreSQL or check the outcome of storing them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from services.ingest.event_table import partitions
from services.ingest.events.outcome import Outcome, Saved, Status

_CENTURY = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def create_partition(connection: Any) -> None:
    """Create one partition of `events` for all rows that a test inserts into a new database."""
    await partitions.create_partition(connection, *_CENTURY)


def statuses(outcomes: Iterable[Outcome]) -> list[Status]:
    """Return the statuses of the events that were not rejected, in order."""
    return [outcome.status for outcome in outcomes if isinstance(outcome, Saved)]
