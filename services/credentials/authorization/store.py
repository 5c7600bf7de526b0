"""Stores pending authorizations in PostgreSQL, because any replica may get the callback."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import aiosql
import msgspec

from hogsend.service.database import Database

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class PendingAuthorization(msgspec.Struct, frozen=True):
    """An authorization that was started and is not finished."""

    payload: str
    """The sealed `_Authorization`."""
    expires_at: datetime


class AuthorizationStore:
    """The table `provider_authorizations`.

    Every method raises `Unavailable` when PostgreSQL is unavailable.
    """

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    async def add(
        self, state_sha256: str, provider: str, pending: PendingAuthorization, now: datetime
    ) -> None:
        """Store an authorization, and delete expired ones."""
        async with self._database.acquire() as connection:
            await _queries.delete_expired(connection, now=now)
            await _queries.add(
                connection,
                state_sha256=state_sha256,
                provider=provider,
                payload=pending.payload,
                expires_at=pending.expires_at,
            )

    async def take(self, state_sha256: str, provider: str) -> PendingAuthorization | None:
        """Return and delete the authorization of a state; None for an unknown state."""
        async with self._database.acquire() as connection:
            row = await _queries.take(connection, state_sha256=state_sha256, provider=provider)
        return None if row is None else PendingAuthorization(row["payload"], row["expires_at"])
