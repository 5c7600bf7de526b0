"""Saves in PostgreSQL how far each durable consumer has read its stream.

JetStream stores the position in the consumer, so it is lost when the consumer is deleted. Without a
saved position, a consumer that is deleted while no replica runs would skip the messages that are
published until it is created again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import aiosql
import msgspec

from hogsend.contract.streams import StreamName
from hogsend.service.database import Database
from hogsend.transport.own_consumer import Position

_queries: Any = aiosql.from_path(Path(__file__).with_name("positions.sql"), "asyncpg")


class SavedPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The position of one durable consumer, as it was last read from JetStream."""

    stream: StreamName
    durable: str
    stream_made_at: datetime
    """When the stream was created. A stream that is created again has the same name."""
    acknowledged: int
    """Sequence up to which all messages were acknowledged."""


class Positions(Protocol):
    """Storage of positions. Every method raises `Unavailable` while it cannot be reached."""

    async def get(self, stream: StreamName, durable: str) -> SavedPosition | None:
        """Return the position of a durable; None when none is saved."""

    async def durables(self, stream: StreamName) -> Sequence[str]:
        """Return the durables of a stream that have a saved position."""

    async def save(self, positions: Sequence[SavedPosition]) -> None:
        """Save positions; each replaces the saved position of its durable."""

    async def delete(self, stream: StreamName, durable: str) -> None:
        """Delete the position of a durable, if one is saved."""


class TrackedPosition:
    """The current position of one durable, which can be loaded from and saved to storage."""

    def __init__(self, storage: Positions, stream: StreamName, durable: str) -> None:
        """Start without a position."""
        self.position = Position()
        self._storage = storage
        self._stream = stream
        self._durable = durable

    async def load(self) -> None:
        """Continue from the saved position, if there is one.

        Raises:
            Unavailable: the storage cannot be reached.
        """
        saved = await self._storage.get(self._stream, self._durable)
        if saved is not None:
            self.position.copy_from(Position(saved.stream_made_at, saved.acknowledged))

    async def save(self) -> None:
        """Save the current position, if there is one.

        Raises:
            Unavailable: the storage cannot be reached.
        """
        if (current := self.current()) is not None:
            await self._storage.save([current])

    def current(self) -> SavedPosition | None:
        """Return the current position; None before the first one is known."""
        if self.position.stream_created_at is None:
            return None
        return SavedPosition(
            stream=self._stream,
            durable=self._durable,
            stream_made_at=self.position.stream_created_at,
            acknowledged=self.position.acknowledged,
        )


class PositionStore:
    """`Positions` in the `analytics` schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, stream: StreamName, durable: str) -> SavedPosition | None:
        """Return the position of a durable; None when none is saved."""
        async with self._database.transaction() as connection:
            row = await _queries.position(connection, stream=stream.value, durable=durable)
        if row is None:
            return None
        return SavedPosition(
            stream=stream,
            durable=durable,
            stream_made_at=row["stream_made_at"],
            acknowledged=row["acknowledged"],
        )

    async def durables(self, stream: StreamName) -> Sequence[str]:
        """Return the durables of a stream that have a saved position."""
        async with self._database.transaction() as connection:
            rows = _queries.durables(connection, stream=stream.value)
            return [row["durable"] async for row in rows]

    async def save(self, positions: Sequence[SavedPosition]) -> None:
        """Save positions; each replaces the saved position of its durable."""
        document = msgspec.json.encode(positions).decode()
        async with self._database.transaction() as connection:
            await _queries.save(connection, positions=document)

    async def delete(self, stream: StreamName, durable: str) -> None:
        """Delete the position of a durable, if one is saved."""
        async with self._database.transaction() as connection:
            await _queries.delete(connection, stream=stream.value, durable=durable)
