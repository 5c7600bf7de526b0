"""Sealed rows in PostgreSQL. Every change bumps its provider's version in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import aiosql
import msgspec

from hogsend.database import Database
from hogsend.messages.credentials import Change, Kind

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class SealedRow(msgspec.Struct, frozen=True):
    """One row of `provider_credentials`."""

    kind: Kind
    payload: str
    created_at: datetime
    updated_at: datetime


Rows: TypeAlias = dict[Kind, SealedRow]
"""A provider's rows by kind."""


class Snapshot(msgspec.Struct, frozen=True):
    """What is stored for a provider at one version; version 0 means never anything."""

    version: int
    rows: Rows


class PendingChange(msgspec.Struct, frozen=True):
    """A committed change that has not been announced, with what is stored now."""

    version: int
    change: Change
    changed_kinds: list[Kind]
    changed_at: datetime
    rows: Rows


class CredentialStore:
    """Rows of the `credentials` schema. Every method raises `Unavailable` while it is away."""

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    async def save(self, provider: str, kind: Kind, payload: str) -> SealedRow:
        """Store a sealed payload, replacing the one of that kind."""
        async with self._database.acquire() as connection, connection.transaction():
            row = await _queries.save(connection, provider=provider, kind=kind, payload=payload)
            await _queries.bump(connection, provider=provider, change="stored", kinds=[kind])
        return _sealed(row)

    async def load(self, provider: str) -> Snapshot:
        """Read everything stored for a provider, and its version, at one moment."""
        async with (
            self._database.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            version = await _queries.version(connection, provider=provider)
            rows = await _rows(connection, provider)
        return Snapshot(version or 0, rows)

    async def delete(self, provider: str) -> bool:
        """Remove every row of a provider without unsealing any; False when there was none."""
        async with self._database.acquire() as connection, connection.transaction():
            kinds = [row["kind"] async for row in _queries.delete(connection, provider=provider)]
            if kinds:
                await _queries.bump(connection, provider=provider, change="deleted", kinds=kinds)
        return bool(kinds)

    async def unannounced(self) -> list[str]:
        """Name the providers whose last change is still to be announced."""
        async with self._database.acquire() as connection:
            return [row["provider_id"] async for row in _queries.unannounced(connection)]

    @asynccontextmanager
    async def announcing(self, provider: str) -> AsyncIterator[PendingChange | None]:
        """Hold a provider's unannounced change, if any, and mark it announced at the end.

        Other replicas wait meanwhile; when the block raises, the change stays unannounced.
        """
        async with self._database.acquire() as connection, connection.transaction():
            row = await _queries.lock_unannounced(connection, provider=provider)
            if row is None:
                yield None
                return
            pending = PendingChange(
                version=row["version"],
                change=row["change"],
                changed_kinds=row["changed_kinds"],
                changed_at=row["changed_at"],
                rows=await _rows(connection, provider),
            )
            yield pending
            await _queries.mark_announced(connection, provider=provider, version=pending.version)


async def _rows(connection: Any, provider: str) -> Rows:
    return {row["kind"]: _sealed(row) async for row in _queries.load(connection, provider=provider)}


def _sealed(row: Any) -> SealedRow:
    return SealedRow(row["kind"], row["payload"], row["created_at"], row["updated_at"])
