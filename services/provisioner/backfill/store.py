"""Stores backfills and their progress in the `provisioner` schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import aiosql
import asyncpg
import msgspec

from hogsend.contract.backfills import PastStored, StartBackfill
from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.locks import HeldLock, LockKey, LockScope, exclusive
from hogsend.service.nul import text_without_nul
from services.provisioner.backfill.job import Job, ProjectCount

LOCK = LockKey.of_name("hogsend.backfill")
IDLE_SECONDS = 120.0
"""PostgreSQL releases the lock of a replica that sent no statement for this long."""

RECEIVED_SECONDS = 6 * 3600.0
"""How long all events of a backfill get the same time of receipt. Ingest's retention counts from
this time. When a chunk is repeated after an interruption, ingest recognizes by the same time which
of its events it may not have published yet."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class BackfillStore:
    """The table `backfills`. Every method raises `Unavailable` while PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[HeldLock]:
        """Hold the backfill lock, which one replica can hold at a time, in a block.

        Raises:
            Busy: another replica holds the lock.
        """
        async with exclusive(
            self._database,
            LOCK,
            scope=LockScope.SESSION,
            wait_seconds=0,
            idle_seconds=IDLE_SECONDS,
            busy="another replica runs the backfill",
            lost="the backfill lost its lock; it continues by itself",
        ) as lock:
            yield lock

    async def now(self) -> datetime:
        """Return the time by PostgreSQL's clock, which is the same for every replica."""
        async with self._database.acquire() as connection:
            return cast("datetime", await _queries.now(connection))

    async def create(
        self, request: StartBackfill, count: ProjectCount, until: datetime, started_at: datetime
    ) -> Job:
        """Create a running backfill of the counted events.

        Raises:
            AlreadyRunning: another backfill is running.
        """
        try:
            async with self._database.acquire() as connection:
                row = await _queries.add(
                    connection,
                    id=uuid4(),
                    project=count.project,
                    since=request.since,
                    until=until,
                    events=sorted(request.events),
                    announce=request.announce,
                    started_at=started_at,
                    total=count.total,
                )
        except asyncpg.UniqueViolationError as error:
            raise AlreadyRunning from error
        return _job(row)

    async def unfinished(self, request: StartBackfill, project: str) -> Job | None:
        """Return the latest backfill of the same events of a project, unless it finished."""
        async with self._database.acquire() as connection:
            row = await _queries.unfinished(
                connection,
                project=project,
                since=request.since,
                until=request.until,
                events=sorted(request.events),
                announce=request.announce,
            )
        return _job(row) if row else None

    async def resume(self, job: Job, project: str) -> Job:
        """Resume a backfill, and set its project.

        Raises:
            AlreadyRunning: another backfill is running.
            Unavailable: the backfill has finished meanwhile.
        """
        try:
            async with self._database.acquire() as connection:
                row = await _queries.resume(connection, id=job.id, project=project)
        except asyncpg.UniqueViolationError as error:
            raise AlreadyRunning from error
        if row is None:
            raise Unavailable("the backfill has just finished; ask again")
        return _job(row)

    async def running(self) -> Job | None:
        """Return the running backfill, if there is one."""
        async with self._database.acquire() as connection:
            row = await _queries.running(connection)
        return _job(row) if row else None

    async def due(self) -> Job | None:
        """Return the running backfill, unless it is paused, by PostgreSQL's clock."""
        async with self._database.acquire() as connection:
            row = await _queries.due(connection)
        return _job(row) if row else None

    async def get(self, id: UUID) -> Job | None:
        """Return a backfill; None when there is no such backfill."""
        async with self._database.acquire() as connection:
            row = await _queries.get(connection, id=id)
        return _job(row) if row else None

    async def latest(self) -> Sequence[Job]:
        """Return the latest backfills, newest first."""
        async with self._database.acquire() as connection:
            return [_job(row) async for row in _queries.latest(connection)]

    async def set_received_at(self, job: Job) -> Job | None:
        """Set the time of receipt of the events that are read now; None if the backfill has ended.

        The time stays the same for `RECEIVED_SECONDS`, because ingest recognizes repeated events by
        it.
        """
        async with self._database.acquire() as connection:
            row = await _queries.set_received_at(connection, id=job.id, seconds=RECEIVED_SECONDS)
        return _job(row) if row else None

    async def advance(
        self,
        job: Job,
        to: tuple[datetime, str],
        read: int,
        result: PastStored,
        *,
        left_out: str | None = None,
    ) -> bool:
        """Advance the position; False when the backfill has ended or another replica advanced it.

        Args:
            job: the backfill before.
            to: time and uuid of the last event that was processed.
            read: number of processed events.
            result: how many of them were stored, known and rejected.
            left_out: describes an event that was skipped; None keeps the description of an earlier
                one.
        """
        to_at, to_uuid = to
        async with self._database.acquire() as connection:
            moved: str = await _queries.advance(
                connection,
                id=job.id,
                from_at=job.position_at,
                from_uuid=job.position_uuid,
                to_at=to_at,
                to_uuid=to_uuid,
                read=read,
                stored=result.stored,
                known=result.known,
                rejected=result.rejected,
                left_out=left_out,
            )
        return moved == "UPDATE 1"

    async def wait(self, job: Job, seconds: float, detail: str, remediation: str | None) -> None:
        """Pause the backfill for `seconds`. The reason may contain any text from PostHog."""
        async with self._database.acquire() as connection:
            await _queries.wait(
                connection,
                id=job.id,
                seconds=seconds,
                detail=text_without_nul(detail),
                remediation=remediation,
            )

    async def end(
        self,
        id: UUID,
        state: Literal["finished", "cancelled", "failed"],
        detail: str | None = None,
        remediation: str | None = None,
    ) -> Job | None:
        """End a backfill, with a reason as for `wait`; None when it is not running."""
        async with self._database.acquire() as connection:
            row = await _queries.end(
                connection,
                id=id,
                state=state,
                detail=text_without_nul(detail),
                remediation=remediation,
            )
        return _job(row) if row else None


class AlreadyRunning(Exception):
    """Another backfill is running; only one can run at a time."""


def _job(row: Mapping[str, Any]) -> Job:
    return msgspec.convert(dict(row), Job)
