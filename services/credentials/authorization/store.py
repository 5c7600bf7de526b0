"""Authorizations that wait for PostHog's answer, in PostgreSQL: any replica may get the answer."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import aiosql
import msgspec

from hogsend.service.database import Database

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class WaitingAuthorization(msgspec.Struct, frozen=True):
    """One that was taken."""

    payload: str
    """Sealed."""
    expires_at: datetime


class AuthorizationStore:
    """`provider_authorizations`. Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    async def remember(
        self, state_sha256: str, provider: str, waiting: WaitingAuthorization, now: datetime
    ) -> None:
        """Store one, and forget those that have expired."""
        async with self._database.acquire() as connection:
            await _queries.forget_expired(connection, now=now)
            await _queries.remember(
                connection,
                state_sha256=state_sha256,
                provider=provider,
                payload=waiting.payload,
                expires_at=waiting.expires_at,
            )

    async def take(self, state_sha256: str, provider: str) -> WaitingAuthorization | None:
        """Take the authorization of a state, once; None for an unknown state."""
        async with self._database.acquire() as connection:
            row = await _queries.take(connection, state_sha256=state_sha256, provider=provider)
        return None if row is None else WaitingAuthorization(row["payload"], row["expires_at"])
