"""Rows of events that tests write themselves, past the service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.ingest.event_table import partitions

_CENTURY = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def make_room(connection: Any) -> None:
    """Make one partition for whatever a test inserts into a new database's `events`."""
    await partitions.make(connection, *_CENTURY)
