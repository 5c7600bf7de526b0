"""How far every durable consumer was read, in PostgreSQL.

JetStream keeps that with the consumer, and forgets it with the consumer. One that is deleted while
no replica runs would leave out what is published until it is made again.
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
    """Where one durable was when it was last looked at."""

    stream: StreamName
    durable: str
    stream_made_at: datetime
    """Tells the streams apart that had one name after each other."""
    acknowledged: int
    """Sequence up to which everything was acknowledged."""


class Positions(Protocol):
    """Keep positions. Every method raises `Unavailable` while they cannot be reached."""

    async def get(self, stream: StreamName, durable: str) -> SavedPosition | None:
        """Where a durable was; None when that is not known."""

    async def durables(self, stream: StreamName) -> Sequence[str]:
        """Durables of a stream whose position is kept."""

    async def save(self, positions: Sequence[SavedPosition]) -> None:
        """Keep positions instead of those that are kept."""

    async def forget(self, stream: StreamName, durable: str) -> None:
        """Keep a durable's position no longer."""


class KeptPosition:
    """One durable's position, as it is used and as it is kept."""

    def __init__(self, kept: Positions, stream: StreamName, durable: str) -> None:
        """Know nothing yet."""
        self.position = Position()
        self._kept = kept
        self._stream = stream
        self._durable = durable

    async def recall(self) -> None:
        """Go on from where it is kept to be.

        Raises:
            Unavailable: that cannot be found out now.
        """
        known = await self._kept.get(self._stream, self._durable)
        if known is not None:
            self.position.copy_from(Position(known.stream_made_at, known.acknowledged))

    async def keep(self) -> None:
        """Keep it as it is.

        Raises:
            Unavailable: that is not possible now.
        """
        if (now := self.now()) is not None:
            await self._kept.save([now])

    def now(self) -> SavedPosition | None:
        """What is to be kept; None while nothing is known."""
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
        """Where a durable was; None when that is not known."""
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
        """Durables of a stream whose position is kept."""
        async with self._database.transaction() as connection:
            found = _queries.durables(connection, stream=stream.value)
            return [row["durable"] async for row in found]

    async def save(self, positions: Sequence[SavedPosition]) -> None:
        """Keep positions instead of those that are kept."""
        document = msgspec.json.encode(positions).decode()
        async with self._database.transaction() as connection:
            await _queries.save(connection, positions=document)

    async def forget(self, stream: StreamName, durable: str) -> None:
        """Keep a durable's position no longer."""
        async with self._database.transaction() as connection:
            await _queries.forget(connection, stream=stream.value, durable=durable)
