"""What is stored of a provider's credential, and how it is read from a row of PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import aiosql
import msgspec

from hogsend.contract.credentials import Change, Kind
from hogsend.service.locks import Connection

queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")
"""Every statement on the `credentials` schema but those of an authorization."""


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

    @property
    def connected_at(self) -> datetime | None:
        """When that was, by PostgreSQL's clock: versions are taken from it, in milliseconds."""
        return datetime.fromtimestamp(self.generation / 1000, UTC) if self.generation else None


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


async def snapshot(connection: Connection, provider: str) -> Snapshot:
    """Read everything stored for a provider, and its version, in one statement."""
    found = [row async for row in queries.load(connection, provider=provider)]
    rows: Rows = {row["kind"]: sealed_row(row) for row in found if row["kind"] is not None}
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


def sealed_row(row: Any) -> SealedRow:
    """Read one row."""
    return SealedRow(row["kind"], row["payload"], row["created_at"], row["updated_at"])
