"""The records of the `credentials` schema, and how they are read from rows of PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import aiosql
import msgspec

from hogsend.contract.credentials import Change, Kind
from hogsend.service.locks import Connection

queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")
"""All statements on the `credentials` schema, except those of authorizations."""


class SealedRow(msgspec.Struct, frozen=True):
    """One row of `provider_credentials`."""

    kind: Kind
    payload: str
    created_at: datetime
    updated_at: datetime


Rows: TypeAlias = dict[Kind, SealedRow]
"""A provider's rows by kind."""


class RefreshState(msgspec.Struct, frozen=True):
    """The state of refreshing the stored grant."""

    started_at: datetime | None
    """Start of a refresh that is running, was interrupted, or whose response was lost."""
    failed_at: datetime | None
    failures: int
    """Number of consecutive failures."""
    reason: str | None
    needs_reconnect: bool

    @property
    def is_interrupted(self) -> bool:
        """Whether a refresh has started and not ended. Read under the lock, a crash ended it."""
        return self.started_at is not None and not self.is_response_lost

    @property
    def is_response_lost(self) -> bool:
        """Whether the last refresh failed without the response, which may have had a new token."""
        started, failed = self.started_at, self.failed_at
        return started is not None and failed is not None and failed >= started


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that is stored for a provider. At version 0 nothing was ever stored."""

    version: int
    rows: Rows
    refresh: RefreshState | None = None
    """None when the stored grant has never been refreshed."""
    change: Change | None = None
    """The change that created this version; None at version 0."""
    generation: int = 0
    """Version at which a grant was last connected or deleted."""

    @property
    def connected_at(self) -> datetime | None:
        """When the generation started, by PostgreSQL's clock: versions are Unix milliseconds."""
        return datetime.fromtimestamp(self.generation / 1000, UTC) if self.generation else None


class PendingChange(msgspec.Struct, frozen=True):
    """A committed change that is not published yet, with the provider's current rows."""

    version: int
    change: Change
    changed_kinds: list[Kind]
    changed_at: datetime
    rows: Rows


class Saved(msgspec.Struct, frozen=True):
    """A saved row, and the change to publish."""

    row: SealedRow
    change: PendingChange | None
    """None when the provider's other rows may have changed at the same time. Then the change must
    be read again before it is published."""


async def snapshot(connection: Connection, provider: str) -> Snapshot:
    """Read everything that is stored for a provider, and its version, in one statement."""
    results = [row async for row in queries.load(connection, provider=provider)]
    rows: Rows = {row["kind"]: sealed_row(row) for row in results if row["kind"] is not None}
    refreshes = [row for row in results if row["failures"] is not None]
    return Snapshot(
        version=results[0]["version"] or 0,
        rows=rows,
        refresh=_refresh_state(refreshes[0]) if refreshes else None,
        change=results[0]["change"],
        generation=results[0]["generation"] or 0,
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
    """Convert one row."""
    return SealedRow(row["kind"], row["payload"], row["created_at"], row["updated_at"])
