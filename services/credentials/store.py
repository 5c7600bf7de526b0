"""Sealed rows in PostgreSQL. Every change bumps its provider's version in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import NamedTuple

from hogsend.contract.credentials import Kind
from hogsend.service.database import Database
from hogsend.service.locks import Connection
from services.credentials.refresh_lock import RefreshLock, held
from services.credentials.stored import (
    PendingChange,
    Rows,
    Saved,
    SealedRow,
    Snapshot,
    queries,
    sealed_row,
    snapshot,
)


class _Stored(NamedTuple):
    """A row that was stored, and the version and generation that it met."""

    saved: Saved
    version_before: int
    generation: int


class _Overtaken(Exception):
    """Another change came first: what the transaction did is undone."""


class CredentialStore:
    """The `credentials` schema. Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use the service's own database."""
        self._database = database

    async def save(self, provider: str, kind: Kind, payload: str) -> Saved:
        """Store a sealed payload, replacing the one of that kind, with its version, at once."""
        async with self._database.acquire() as connection:
            return (await _save(connection, provider, kind, payload, [kind])).saved

    async def save_derived(self, provider: str, payload: str, *, generation: int) -> Saved | None:
        """Store a sealed derived payload as `save` does.

        None when the generation is another one: a grant was connected or deleted meanwhile.
        Nothing is stored then.
        """
        async with self._database.acquire() as connection:
            with suppress(_Overtaken):
                async with connection.transaction():
                    stored = await _save(connection, provider, "derived", payload, ["derived"])
                    if stored.generation != generation:
                        raise _Overtaken
                    return stored.saved
        return None

    async def save_grant(
        self, provider: str, grant: str, derived: str | None, *, version: int
    ) -> Saved | None:
        """Store a sealed grant, and the derived payload beside it, as one change; gives the grant.

        None when another change came after `version`; nothing is stored then.

        Args:
            provider: whose they are.
            grant: what takes the place of the grant.
            derived: what takes the place of the derived payload; None leaves that as it is.
            version: the last one that the caller knows.
        """
        kinds: list[Kind] = ["oauth"] if derived is None else ["derived", "oauth"]
        async with self._database.acquire() as connection:
            with suppress(_Overtaken):
                async with connection.transaction():
                    if derived is not None:
                        await queries.lock_rows(connection, provider=provider)
                        await queries.replace_derived(
                            connection, provider=provider, payload=derived
                        )
                    stored = await _save(connection, provider, "oauth", grant, kinds)
                    if stored.version_before != version:
                        raise _Overtaken
                    if derived is not None:
                        await queries.name_changed_kinds(connection, provider=provider, kinds=kinds)
                    return stored.saved
        return None

    async def load(self, provider: str) -> Snapshot:
        """Read everything stored for a provider, and its version, in one statement."""
        async with self._database.acquire() as connection:
            return await snapshot(connection, provider)

    async def delete(self, provider: str) -> bool:
        """Remove every row of a provider without unsealing any; False when there was none."""
        async with self._database.acquire() as connection, connection.transaction():
            kinds = [row["kind"] async for row in queries.delete(connection, provider=provider)]
            if kinds:
                await queries.bump(connection, provider=provider, change="deleted", kinds=kinds)
        return bool(kinds)

    def refresh_lock(self, provider: str) -> AbstractAsyncContextManager[RefreshLock]:
        """Hold the provider's refresh lock, which one replica has at a time.

        Raises:
            Unavailable: PostgreSQL is not available, or another replica's refresh does not end.
        """
        return held(self._database, provider)

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
        """Replace the seal of a payload, unless the row has changed meanwhile."""
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
        """Hold a provider's pending change, if any, and mark it published when the block ends.

        Other replicas wait meanwhile. When the block raises, the change stays pending.
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
        """Record that a version has been published, unless a later one has."""
        async with self._database.acquire() as connection:
            await queries.mark_published(connection, provider=provider, version=version)

    async def published_versions(self) -> dict[str, int]:
        """Give each provider's last version that has been published."""
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
) -> _Stored:
    found = [
        row async for row in queries.save(connection, provider=provider, kind=kind, payload=payload)
    ]
    rows: Rows = {row["kind"]: sealed_row(row) for row in found}
    newest = found[0]
    change = PendingChange(
        version=newest["version"],
        change="stored",
        changed_kinds=changed_kinds,
        changed_at=newest["changed_at"],
        rows=rows,
    )
    saved = Saved(rows[kind], change if newest["is_alone"] else None)
    return _Stored(saved, newest["version_before"], newest["generation"])
