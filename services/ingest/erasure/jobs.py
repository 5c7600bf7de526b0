"""Erasures as jobs in PostgreSQL.

A job is recorded in the transaction that deletes the contact. Any replica can do the other steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosql
import msgspec

from hogsend.contract.contacts import Erasure
from hogsend.contract.errors import NotFound
from hogsend.service.database import Database
from services.ingest.contacts import storage
from services.ingest.contacts.contact import EXTERNAL, ROW, Key
from services.ingest.erasure.person import Person
from services.ingest.event_table import event_keys
from services.ingest.event_table.partitions import Partition, list_partitions
from services.ingest.incoming_event import EventKey

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")
_decode_person = msgspec.json.Decoder(Person).decode

CLAIM_SECONDS = 120.0
"""How long a claim of a job lasts unless it is renewed. Afterwards another replica repeats the
step, which is harmless, but reads every stream once more."""
SETTLE_SECONDS = 60.0
"""Pause between two sweeps. A batch that was stored before the erasure is published in it."""
MAX_SWEEPING_SECONDS = 3600.0
"""An erasure finishes this long after its first sweep even if each sweep finds messages: a service
keeps publishing about the time before the erasure."""
DELETE_SECONDS = 600.0
"""Time limit of the query for one person's events in a partition. A partition whose index is not
built yet is read as a whole."""
EVENTS_AT_ONCE = 10_000
"""Most events that one transaction deletes."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure that is not finished."""

    id: UUID
    contact_id: UUID
    contact_ids: list[UUID]
    """The contact's id and those that were merged into it."""
    person: Person
    requested_at: datetime
    is_swept: bool
    """Whether the first sweep is done, and a later one is due."""


class ErasureJobs:
    """The stored erasures. Every method raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        """Store jobs in `database`; wait `settle_seconds` between two sweeps."""
        self._database = database
        self._settle_seconds = settle_seconds

    async def request(self, contact_id: UUID) -> Erasure:
        """Delete a contact and record the job for the rest; repeating it changes nothing.

        Raises:
            NotFound: no contact has this id, and no erased contact had it.
        """
        row = await storage.retry_conflicts(lambda: self._request(contact_id))
        if row is None:
            raise NotFound(f"there is no contact {contact_id}; `hogsend contacts show` finds some")
        return _to_erasure(row)

    async def _request(self, contact_id: UUID) -> Mapping[str, Any] | None:
        async with self._database.acquire() as connection, connection.transaction():
            if (contact := await storage.lock_owner(connection, contact_id)) is not None:
                await _forget(connection, contact.id)
            row: Mapping[str, Any] | None = await _queries.erasure(connection, id=contact_id)
        return row

    async def claim(self, *, announced: bool, limit: int) -> list[Job]:
        """Claim jobs that are due.

        Args:
            announced: claim jobs that were announced, whose next step is a sweep; otherwise those
                that are only requested.
            limit: most jobs.
        """
        async with self._database.acquire() as connection:
            rows = _queries.claim(
                connection, announced=announced, limit=limit, seconds=CLAIM_SECONDS
            )
            return [
                Job(
                    id=row["id"],
                    contact_id=row["contact_id"],
                    contact_ids=row["contact_ids"],
                    person=_decode_person(row["person"]),
                    requested_at=row["requested_at"],
                    is_swept=row["swept_at"] is not None,
                )
                async for row in rows
            ]

    async def renew(self, jobs: Sequence[Job], *, announced: bool) -> None:
        """Extend the claims of jobs whose step is not done yet.

        Args:
            jobs: as `claim` returned them.
            announced: as they were claimed with.
        """
        async with self._database.acquire() as connection:
            await _queries.renew(
                connection,
                ids=[job.id for job in jobs],
                swept=[job.is_swept for job in jobs],
                announced=announced,
                seconds=CLAIM_SECONDS,
            )

    async def delete_events(self, job: Job) -> int:
        """Delete the stored events of the person, and their keys.

        Returns:
            Their number. Each transaction records its part with the job.
        """
        async with self._database.acquire() as connection:
            partitions = await list_partitions(connection)
        deleted = 0
        for partition in partitions:
            while count := await self._delete_batch(job, partition):
                deleted += count
        return deleted

    async def _delete_batch(self, job: Job, partition: Partition) -> int:
        """Delete up to `EVENTS_AT_ONCE` events in one partition; returns their number."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _queries.lock_events.sql,
                *(job.contact_ids, partition.relation, partition.begins, partition.ends),
                EVENTS_AT_ONCE,
                timeout=DELETE_SECONDS,
            )
            if rows:
                await event_keys.forget(connection, [EventKey(*row[1:]) for row in rows])
                await _queries.delete_events(
                    connection,
                    relation=partition.relation,
                    begins=partition.begins,
                    ends=partition.ends,
                    places=[row[0] for row in rows],
                )
                # In the same transaction: deleted events cannot be counted later.
                await _queries.add_deleted(connection, id=job.id, events=len(rows), messages=0)
        return len(rows)

    async def mark_announced(self, job: Job) -> None:
        """Record that the erasure was announced and the events deleted; the first sweep is due."""
        async with self._database.acquire() as connection:
            await _queries.mark_announced(connection, id=job.id)

    async def record_deleted(self, job: Job, *, messages: int) -> None:
        """Record how many messages a sweep deleted before it failed."""
        async with self._database.acquire() as connection:
            await _queries.add_deleted(connection, id=job.id, events=0, messages=messages)

    async def record_sweep(self, job: Job, *, messages: int) -> bool:
        """Record a sweep; return whether it finished the job.

        That is a second or later sweep that deleted no message. If it deleted some, others may have
        been replayed from them just before, and are in a part of the streams that it had read.
        """
        async with self._database.acquire() as connection, connection.transaction():
            await _queries.add_deleted(connection, id=job.id, events=0, messages=messages)
            await _queries.mark_swept(connection, id=job.id, seconds=self._settle_seconds)
            if not job.is_swept:
                return False
            finished = await _queries.finish(
                connection, id=job.id, messages=messages, seconds=MAX_SWEEPING_SECONDS
            )
        return finished is not None


async def _forget(connection: Any, id: UUID) -> None:
    keys = [row async for row in _queries.keys(connection, contact=id)]
    rows = [row["value"] for row in keys if row["kind"] == ROW]
    contacts = [id, *map(UUID, rows)]
    erased = [(row["kind"], row["digest"]) for row in keys if row["kind"] != ROW]
    erased += [(ROW, storage.digest(Key(ROW, str(contact)))) for contact in contacts]
    # A user id may be the contact's own id: other services know a contact without a user id by it.
    erased += [(EXTERNAL, storage.digest(Key(EXTERNAL, str(contact)))) for contact in contacts]
    person = Person.from_keys((Key(row["kind"], row["value"]) for row in keys), contacts)
    erasure = uuid4()
    await _queries.record_erasure(
        connection,
        id=erasure,
        contact=id,
        contacts=contacts,
        person=msgspec.json.encode(person).decode(),
    )
    erased = list(dict.fromkeys(erased))
    await _queries.remember_digests(
        connection,
        erasure=erasure,
        kinds=[kind for kind, _ in erased],
        digests=[digest for _, digest in erased],
    )
    await _queries.forget_keys(connection, contact=id)
    await _queries.forget_merges(connection, contacts=contacts)
    await _queries.forget_contact(connection, contact=id)


def _to_erasure(row: Mapping[str, Any]) -> Erasure:
    return Erasure(
        id=str(row["id"]),
        contact_id=str(row["contact_id"]),
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
        events=row["events"],
        messages=row["messages"],
    )
