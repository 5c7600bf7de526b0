"""Stores sealed rows in PostgreSQL. Each change bumps the provider's version in its transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import NamedTuple

from hogsend.contract.credentials import Kind
from hogsend.service.database import Database
from hogsend.service.locks import Connection
from services.credentials.records import (
    PendingChange,
    Rows,
    Saved,
    SealedRow,
    Snapshot,
    queries,
    sealed_row,
    snapshot,
)
from services.credentials.refresh_lock import RefreshLock, acquire_refresh_lock


class _SaveResult(NamedTuple):
    """A saved row, and the provider's version and generation before it was saved."""

    saved: Saved
    version_before: int
    generation: int


class _Conflict(Exception):
    """Another change was committed first. Raised in a transaction to roll it back."""


class CredentialStore:
    """The `credentials` schema. Methods raise `Unavailable` while PostgreSQL cannot be used."""

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    async def save(self, provider: str, kind: Kind, payload: str) -> Saved:
        """Store a sealed payload in place of the one of that kind, and bump the version."""
        async with self._database.acquire() as connection:
            return (await _save(connection, provider, kind, payload, [kind])).saved

    async def save_derived(self, provider: str, payload: str, *, generation: int) -> Saved | None:
        """Store a sealed derived payload as `save` does.

        None when `generation` is not the current one, because a grant was connected or deleted
        meanwhile. Then nothing is stored.
        """
        async with self._database.acquire() as connection:
            with suppress(_Conflict):
                async with connection.transaction():
                    result = await _save(connection, provider, "derived", payload, ["derived"])
                    if result.generation != generation:
                        raise _Conflict
                    return result.saved
        return None

    async def save_grant(
        self, provider: str, grant: str, derived: str | None, *, version: int
    ) -> Saved | None:
        """Store a sealed grant and derived payload as one change, and return the grant's row.

        None when the provider's version is not `version` any more. Then nothing is stored.

        Args:
            provider: the provider of both.
            grant: the sealed grant.
            derived: the sealed derived payload; None keeps the stored one.
            version: the version that the caller has read.
        """
        kinds: list[Kind] = ["oauth"] if derived is None else ["derived", "oauth"]
        async with self._database.acquire() as connection:
            with suppress(_Conflict):
                async with connection.transaction():
                    if derived is not None:
                        await queries.lock_rows(connection, provider=provider)
                        await queries.replace_derived(
                            connection, provider=provider, payload=derived
                        )
                    result = await _save(connection, provider, "oauth", grant, kinds)
                    if result.version_before != version:
                        raise _Conflict
                    if derived is not None:
                        await queries.set_changed_kinds(connection, provider=provider, kinds=kinds)
                    return result.saved
        return None

    async def load(self, provider: str) -> Snapshot:
        """Read everything that is stored for a provider, and its version, in one statement."""
        async with self._database.acquire() as connection:
            return await snapshot(connection, provider)

    async def delete(self, provider: str) -> bool:
        """Delete every row of a provider without unsealing any; False when there was none."""
        async with self._database.acquire() as connection, connection.transaction():
            kinds = [row["kind"] async for row in queries.delete(connection, provider=provider)]
            if kinds:
                await queries.bump(connection, provider=provider, change="deleted", kinds=kinds)
        return bool(kinds)

    def refresh_lock(self, provider: str) -> AbstractAsyncContextManager[RefreshLock]:
        """Hold the provider's refresh lock, which only one replica can hold, in a block.

        Raises:
            Unavailable: PostgreSQL is not available, or another replica's refresh does not end.
        """
        return acquire_refresh_lock(self._database, provider)

    async def granted_providers(self) -> list[str]:
        """List the providers that have an OAuth grant."""
        async with self._database.acquire() as connection:
            return [row["provider_id"] async for row in queries.granted_providers(connection)]

    async def all_rows(self) -> list[tuple[str, SealedRow]]:
        """Read every row, with its provider."""
        async with self._database.acquire() as connection:
            return [
                (row["provider_id"], sealed_row(row)) async for row in queries.all_rows(connection)
            ]

    async def reseal(self, provider: str, row: SealedRow, payload: str) -> None:
        """Replace a sealed payload by the same payload sealed again, unless the row has changed."""
        async with self._database.acquire() as connection:
            await queries.reseal(
                connection, provider=provider, kind=row.kind, old=row.payload, new=payload
            )

    async def pending_changes(self) -> list[str]:
        """List the providers whose last change is not published yet."""
        async with self._database.acquire() as connection:
            return [row["provider_id"] async for row in queries.pending_changes(connection)]

    @asynccontextmanager
    async def pending_change(self, provider: str) -> AsyncIterator[PendingChange | None]:
        """Lock a provider's pending change, if any, and mark it as published when the block ends.

        Other replicas wait for the lock. When the block raises, the change stays pending.
        """
        async with self._database.acquire() as connection, connection.transaction():
            row = await queries.lock_pending_change(connection, provider=provider)
            if row is None:
                yield None
                return
            pending = PendingChange(
                version=row["version"],
                change=row["change"],
                changed_kinds=row["changed_kinds"],
                changed_at=row["changed_at"],
                rows=(await snapshot(connection, provider)).rows,
            )
            yield pending
            await queries.mark_published(connection, provider=provider, version=pending.version)

    async def mark_published(self, provider: str, version: int) -> None:
        """Record that a version was published, unless a later one was."""
        async with self._database.acquire() as connection:
            await queries.mark_published(connection, provider=provider, version=version)

    async def published_versions(self) -> dict[str, int]:
        """Return the last published version of each provider."""
        async with self._database.acquire() as connection:
            return {
                row["provider_id"]: row["announced"]
                async for row in queries.published_versions(connection)
            }

    async def mark_all_pending(self) -> None:
        """Mark every provider's last change as not published."""
        async with self._database.acquire() as connection:
            await queries.mark_all_pending(connection)


async def _save(
    connection: Connection, provider: str, kind: Kind, payload: str, changed_kinds: list[Kind]
) -> _SaveResult:
    results = [
        row async for row in queries.save(connection, provider=provider, kind=kind, payload=payload)
    ]
    rows: Rows = {row["kind"]: sealed_row(row) for row in results}
    # The columns of the version are the same in every row.
    versions = results[0]
    change = PendingChange(
        version=versions["version"],
        change="stored",
        changed_kinds=changed_kinds,
        changed_at=versions["changed_at"],
        rows=rows,
    )
    saved = Saved(rows[kind], change if versions["is_sole_change"] else None)
    return _SaveResult(saved, versions["version_before"], versions["generation"])
