"""Sealed rows in PostgreSQL. Every change bumps its provider's version in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import aiosql
import asyncpg
import msgspec

from hogsend.contract.credentials import Change, Kind
from hogsend.contract.errors import Unavailable
from hogsend.service.database import BROKEN, Database
from hogsend.service.locks import Connection, HeldLock, LockKey, LockScope, exclusive

LOCK_WAIT_SECONDS = 12.0
"""Longest wait for another replica's refresh, which may take 10 s."""
LOCK_IDLE_SECONDS = 15.0
"""PostgreSQL takes the refresh lock from a replica that does nothing for this long."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class SealedRow(msgspec.Struct, frozen=True):
    """One row of `provider_credentials`."""

    kind: Kind
    payload: str
    created_at: datetime
    updated_at: datetime


Rows: TypeAlias = dict[Kind, SealedRow]
"""A provider's rows by kind."""


class RefreshState(msgspec.Struct, frozen=True):
    """How refreshing the stored grant goes."""

    started_at: datetime | None
    """Start of the refresh that is under way, was interrupted, or whose answer was lost."""
    failed_at: datetime | None
    failures: int
    """Number of failures in a row."""
    reason: str | None
    needs_reconnect: bool

    @property
    def is_interrupted(self) -> bool:
        """Whether a refresh has started and not ended; read under the lock, a crash cut it off."""
        return self.started_at is not None and not self.is_answer_lost

    @property
    def is_answer_lost(self) -> bool:
        """Whether the last refresh ended without the answer that may hold a new token."""
        started, failed = self.started_at, self.failed_at
        return started is not None and failed is not None and failed >= started


class Snapshot(msgspec.Struct, frozen=True):
    """What is stored for a provider at one version; at version 0 nothing was ever stored."""

    version: int
    rows: Rows
    refresh: RefreshState | None = None
    """None when the stored grant has never been refreshed."""
    change: Change | None = None
    """What made this version; None at version 0."""
    generation: int = 0
    """Version at which a grant was last connected or deleted."""


class PendingChange(msgspec.Struct, frozen=True):
    """A committed change that has not been published, with what is stored now."""

    version: int
    change: Change
    changed_kinds: list[Kind]
    changed_at: datetime
    rows: Rows


class Saved(msgspec.Struct, frozen=True):
    """A row that was stored, and the change that it is."""

    row: SealedRow
    change: PendingChange | None
    """None when the provider's other rows may have changed at the same time."""


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
                        await _queries.lock_rows(connection, provider=provider)
                        await _queries.replace_derived(
                            connection, provider=provider, payload=derived
                        )
                    stored = await _save(connection, provider, "oauth", grant, kinds)
                    if stored.version_before != version:
                        raise _Overtaken
                    if derived is not None:
                        await _queries.name_changed_kinds(
                            connection, provider=provider, kinds=kinds
                        )
                    return stored.saved
        return None

    async def load(self, provider: str) -> Snapshot:
        """Read everything stored for a provider, and its version, in one statement."""
        async with self._database.acquire() as connection:
            return await _snapshot(connection, provider)

    async def delete(self, provider: str) -> bool:
        """Remove every row of a provider without unsealing any; False when there was none."""
        async with self._database.acquire() as connection, connection.transaction():
            kinds = [row["kind"] async for row in _queries.delete(connection, provider=provider)]
            if kinds:
                await _queries.bump(connection, provider=provider, change="deleted", kinds=kinds)
        return bool(kinds)

    @asynccontextmanager
    async def refresh_lock(self, provider: str) -> AsyncIterator[RefreshLock]:
        """Hold the provider's refresh lock, which one replica has at a time.

        Raises:
            Unavailable: PostgreSQL is not available, or another replica's refresh does not end.
        """
        async with exclusive(
            self._database,
            LockKey.of_pair("hogsend.credentials.refresh", provider),
            scope=LockScope.SESSION,
            wait_seconds=LOCK_WAIT_SECONDS,
            idle_seconds=LOCK_IDLE_SECONDS,
            busy="another replica's refresh does not end",
        ) as lock:
            yield RefreshLock(lock, provider)

    async def granted_providers(self) -> list[str]:
        """List the providers that have an OAuth grant."""
        async with self._database.acquire() as connection:
            return [row["provider_id"] async for row in _queries.granted_providers(connection)]

    async def all_rows(self) -> list[tuple[str, SealedRow]]:
        """Read every row, with its provider."""
        async with self._database.acquire() as connection:
            return [
                (row["provider_id"], _sealed(row)) async for row in _queries.all_rows(connection)
            ]

    async def reseal(self, provider: str, row: SealedRow, payload: str) -> None:
        """Replace the seal of a payload, unless the row has changed meanwhile."""
        async with self._database.acquire() as connection:
            await _queries.reseal(
                connection, provider=provider, kind=row.kind, old=row.payload, new=payload
            )

    async def pending_changes(self) -> list[str]:
        """List the providers whose last change is not published yet."""
        async with self._database.acquire() as connection:
            return [row["provider_id"] async for row in _queries.pending_changes(connection)]

    @asynccontextmanager
    async def pending_change(self, provider: str) -> AsyncIterator[PendingChange | None]:
        """Hold a provider's pending change, if any, and mark it published when the block ends.

        Other replicas wait meanwhile. When the block raises, the change stays pending.
        """
        async with self._database.acquire() as connection, connection.transaction():
            row = await _queries.lock_pending_change(connection, provider=provider)
            if row is None:
                yield None
                return
            pending = PendingChange(
                version=row["version"],
                change=row["change"],
                changed_kinds=row["changed_kinds"],
                changed_at=row["changed_at"],
                rows=(await _snapshot(connection, provider)).rows,
            )
            yield pending
            await _queries.mark_published(connection, provider=provider, version=pending.version)

    async def mark_published(self, provider: str, version: int) -> None:
        """Record that a version has been published, unless a later one has."""
        async with self._database.acquire() as connection:
            await _queries.mark_published(connection, provider=provider, version=version)

    async def published_versions(self) -> dict[str, int]:
        """Give each provider's last version that has been published."""
        async with self._database.acquire() as connection:
            return {
                row["provider_id"]: row["announced"]
                async for row in _queries.published_versions(connection)
            }

    async def mark_all_pending(self) -> None:
        """Mark every provider's last change as not published."""
        async with self._database.acquire() as connection:
            await _queries.mark_all_pending(connection)


class RefreshLock:
    """What one refresh may do while no other replica refreshes the same provider.

    Every step commits by itself, so that the refreshed grant is safe before anything else happens.
    """

    def __init__(self, lock: HeldLock, provider: str) -> None:
        """Work under the lock."""
        self._lock = lock
        self._provider = provider

    async def load(self) -> Snapshot:
        """Read what is stored now: another replica may just have refreshed."""
        async with self._lock.statements() as connection:
            return await _snapshot(connection, self._provider)

    async def start(self, replaced: SealedRow, now: datetime) -> None:
        """Record that the token endpoint is about to be asked."""
        async with self._lock.statements() as connection:
            await _queries.start_refresh(
                connection,
                provider=self._provider,
                replaced=replaced.updated_at,
                started_at=now,
            )

    async def save(self, replaced: SealedRow, payload: str) -> int | None:
        """Store the refreshed grant and return its version.

        None when `replaced` was replaced or deleted meanwhile; nothing is stored then.

        Raises:
            Unavailable: PostgreSQL did not take it, for whatever reason.
        """
        try:
            async with self._lock.statements() as connection:
                version: int | None = await _queries.replace_grant(
                    connection,
                    provider=self._provider,
                    replaced=replaced.updated_at,
                    payload=payload,
                )
        except BROKEN:
            # `Database.acquire` discards the connection.
            raise
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL refuses the grant: {type(error).__name__}") from error
        return version

    async def fail(
        self,
        replaced: SealedRow,
        now: datetime,
        reason: str,
        *,
        needs_reconnect: bool,
        lost: bool = False,
    ) -> int:
        """Record a failure; returns the number of failures in a row, 0 for a replaced grant.

        Args:
            replaced: the grant that was to be refreshed.
            now: when it failed.
            reason: what an operator is told.
            needs_reconnect: whether only connecting again helps.
            lost: whether the answer was lost, so that the grant may have been refreshed.
        """
        async with self._lock.statements() as connection:
            failures: int | None = await _queries.fail_refresh(
                connection,
                provider=self._provider,
                replaced=replaced.updated_at,
                failed_at=now,
                reason=reason,
                needs_reconnect=needs_reconnect,
                lost=lost,
            )
        return failures or 0


async def _save(
    connection: Connection, provider: str, kind: Kind, payload: str, changed_kinds: list[Kind]
) -> _Stored:
    found = [
        row
        async for row in _queries.save(connection, provider=provider, kind=kind, payload=payload)
    ]
    rows: Rows = {row["kind"]: _sealed(row) for row in found}
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


async def _snapshot(connection: Connection, provider: str) -> Snapshot:
    found = [row async for row in _queries.load(connection, provider=provider)]
    rows: Rows = {row["kind"]: _sealed(row) for row in found if row["kind"] is not None}
    refreshes = [row for row in found if row["failures"] is not None]
    return Snapshot(
        version=found[0]["version"] or 0,
        rows=rows,
        refresh=_refresh_state(refreshes[0]) if refreshes else None,
        change=found[0]["change"],
        generation=found[0]["generation"] or 0,
    )


def _refresh_state(row: Any) -> RefreshState:
    return RefreshState(
        started_at=row["started_at"],
        failed_at=row["failed_at"],
        failures=row["failures"],
        reason=row["reason"],
        needs_reconnect=row["needs_reconnect"],
    )


def _sealed(row: Any) -> SealedRow:
    return SealedRow(row["kind"], row["payload"], row["created_at"], row["updated_at"])
