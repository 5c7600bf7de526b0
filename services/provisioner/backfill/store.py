"""Backfills in the `provisioner` schema: what is wanted, and how far it is."""

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

from hogsend.contract.backfills import Backfill, PastStored, StartBackfill, State
from hogsend.contract.errors import Unavailable
from hogsend.posthog.api import EventRange
from hogsend.service.database import Database
from hogsend.service.locks import HeldLock, LockKey, LockScope, exclusive
from hogsend.service.nul import text_without_nul

LOCK = LockKey.of_name("hogsend.backfill")
IDLE_SECONDS = 120.0
"""PostgreSQL takes the lock from a replica that sent no statement for this long."""

RECEIVED_SECONDS = 6 * 3600.0
"""How long events that a backfill brings count as received at one moment. Ingest keeps them for a
number of days from then on; of a part that was interrupted, it knows by the same moment what it may
not have announced yet."""

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


class Counted(msgspec.Struct, frozen=True):
    """How many events a backfill would read, and of which project."""

    total: int
    project: str
    """Its address in PostHog."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill as its row is."""

    id: UUID
    project: str | None = None
    """Address of the project in PostHog; None for one from before, which reads any."""
    state: State
    since: datetime
    until: datetime
    events: list[str]
    announce: bool
    started_at: datetime
    received_at: datetime | None = None
    """When the events it brings count as received, unless that is its start."""
    ended_at: datetime | None
    position_at: datetime | None
    position_uuid: str | None
    total: int
    read: int
    stored: int
    known: int
    rejected: int
    left_out: str | None = None
    detail: str | None
    remediation: str | None

    @property
    def rest(self) -> EventRange:
        """The events that are not here yet."""
        after = None
        if self.position_at is not None and self.position_uuid is not None:
            after = self.position_at, self.position_uuid
        return EventRange(since=self.since, until=self.until, events=self.events, after=after)

    @property
    def shown(self) -> Backfill:
        """As the contract has it."""
        return Backfill(
            id=str(self.id),
            state=self.state,
            since=self.since,
            until=self.until,
            events=self.events,
            announce=self.announce,
            started_at=self.started_at,
            ended_at=self.ended_at,
            position=self.position_at,
            total=self.total,
            read=self.read,
            stored=self.stored,
            known=self.known,
            rejected=self.rejected,
            left_out=self.left_out,
            detail=self.detail,
            remediation=self.remediation,
        )

    def does(self, wanted: StartBackfill) -> bool:
        """Whether this is what is asked for."""
        return (self.since, self.events, self.announce) == (
            wanted.since,
            sorted(wanted.events),
            wanted.announce,
        ) and wanted.until in {None, self.until}


class BackfillStore:
    """Every method raises `Unavailable` while PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[HeldLock]:
        """Be the only replica that reads.

        Raises:
            Busy: another replica does.
        """
        async with exclusive(
            self._database,
            LOCK,
            scope=LockScope.SESSION,
            wait_seconds=0,
            idle_seconds=IDLE_SECONDS,
            busy="another replica runs the backfill",
            lost="the backfill lost its lock; it goes on by itself",
        ) as held:
            yield held

    async def now(self) -> datetime:
        """The time by PostgreSQL's clock, which is the same for every replica."""
        async with self._database.acquire() as connection:
            return cast("datetime", await _queries.now(connection))

    async def begin(
        self, wanted: StartBackfill, counted: Counted, until: datetime, started_at: datetime
    ) -> Job:
        """Begin a backfill of what was counted.

        Raises:
            AnotherRuns: one runs already.
        """
        try:
            async with self._database.acquire() as connection:
                row = await _queries.add(
                    connection,
                    id=uuid4(),
                    project=counted.project,
                    since=wanted.since,
                    until=until,
                    events=sorted(wanted.events),
                    announce=wanted.announce,
                    started_at=started_at,
                    total=counted.total,
                )
        except asyncpg.UniqueViolationError as error:
            raise AnotherRuns from error
        return _job(row)

    async def unfinished(self, wanted: StartBackfill, project: str) -> Job | None:
        """Find the latest backfill of the same events of a project, unless it finished."""
        async with self._database.acquire() as connection:
            row = await _queries.unfinished(
                connection,
                project=project,
                since=wanted.since,
                until=wanted.until,
                events=sorted(wanted.events),
                announce=wanted.announce,
            )
        return _job(row) if row else None

    async def resume(self, job: Job, project: str) -> Job:
        """Go on with a backfill, which is that project's.

        Raises:
            AnotherRuns: another one runs.
            Unavailable: it has finished meanwhile.
        """
        try:
            async with self._database.acquire() as connection:
                row = await _queries.resume(connection, id=job.id, project=project)
        except asyncpg.UniqueViolationError as error:
            raise AnotherRuns from error
        if row is None:
            raise Unavailable("the backfill has just finished; ask again")
        return _job(row)

    async def running(self) -> Job | None:
        """Return the backfill that runs."""
        async with self._database.acquire() as connection:
            row = await _queries.running(connection)
        return _job(row) if row else None

    async def due(self) -> Job | None:
        """Return the backfill that runs, unless it waits. The clock is PostgreSQL's, always."""
        async with self._database.acquire() as connection:
            row = await _queries.due(connection)
        return _job(row) if row else None

    async def one(self, id: UUID) -> Job | None:
        """Return a backfill."""
        async with self._database.acquire() as connection:
            row = await _queries.one(connection, id=id)
        return _job(row) if row else None

    async def latest(self) -> Sequence[Job]:
        """Return the latest backfills, the newest first."""
        async with self._database.acquire() as connection:
            return [_job(row) async for row in _queries.latest(connection)]

    async def receive(self, job: Job) -> Job | None:
        """Find out when events that are brought now count as received; None if it has ended.

        It stays the same for `RECEIVED_SECONDS`: ingest knows a repetition by it.
        """
        async with self._database.acquire() as connection:
            row = await _queries.receive(connection, id=job.id, seconds=RECEIVED_SECONDS)
        return _job(row) if row else None

    async def advance(
        self,
        job: Job,
        to: tuple[datetime, str],
        read: int,
        done: PastStored,
        *,
        left_out: str | None = None,
    ) -> bool:
        """Move the position; False when the backfill has ended or another replica moved it.

        Args:
            job: the backfill as it was.
            to: time and uuid of the last event that is done with.
            read: how many there were.
            done: what became of them.
            left_out: which of them was left out; None keeps what was said of an earlier one.
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
                stored=done.stored,
                known=done.known,
                rejected=done.rejected,
                left_out=left_out,
            )
        return moved == "UPDATE 1"

    async def wait(self, job: Job, seconds: float, detail: str, remediation: str | None) -> None:
        """Note that it waits, for how long and why; the reason may be whatever PostHog answered."""
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
        """End a backfill, and say why as in `wait`; None when it does not run."""
        async with self._database.acquire() as connection:
            row = await _queries.end(
                connection,
                id=id,
                state=state,
                detail=text_without_nul(detail),
                remediation=remediation,
            )
        return _job(row) if row else None


class AnotherRuns(Exception):
    """One backfill runs at a time."""


def _job(row: Mapping[str, Any]) -> Job:
    return msgspec.convert(dict(row), Job)
