"""Interim store."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from hogsend.database import Database
from hogsend.messages.destinations import DeliveryStatus
from services.analytics.destinations.model import Destination, DestinationConfig


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event at one destination."""

    destination_id: UUID
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    response_status: int | None = None
    error: str | None = None


class DestinationStore:
    """Interim."""

    def __init__(self, database: Database) -> None:
        """Interim."""
        self._database = database

    async def all(self) -> list[Destination]:
        """Interim."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch("SELECT * FROM destinations ORDER BY created_at, id")
        return [
            Destination(
                **{
                    **dict(row),
                    "config": msgspec.json.decode(row["config"], type=DestinationConfig),
                }
            )
            for row in rows
        ]

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Interim."""
        async with self._database.acquire() as connection:
            await connection.executemany(
                "INSERT INTO deliveries (destination_id, event_id, event_type, status, attempts,"
                " response_status, error) VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT DO NOTHING",
                [
                    (
                        o.destination_id,
                        o.event_id,
                        o.event_type,
                        o.status,
                        o.attempts,
                        o.response_status,
                        o.error,
                    )
                    for o in outcomes
                ],
            )
