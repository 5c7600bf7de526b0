"""Erasures as jobs in PostgreSQL: recorded with the first step, and finished by any replica."""

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
from services.ingest.event_table import known_events
from services.ingest.event_table.partitions import Partition, listed
from services.ingest.incoming_event import EventKey

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")
_decode_person = msgspec.json.Decoder(Person).decode

CLAIM_SECONDS = 120.0
"""How long a job stays taken unless that is renewed. Then another replica does the same, which is
harmless, and costs one more look through every stream."""
SETTLE_SECONDS = 60.0
"""Pause before the second sweep, in which a batch that was stored already is published."""
DELETE_SECONDS = 600.0
"""Longest time to find the events of one person in a partition; one that has no index yet is looked
through."""
EVENTS_AT_ONCE = 10_000
"""Events that one transaction deletes."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure that is not finished."""

    id: UUID
    contact_id: UUID
    contact_ids: list[UUID]
    """The contact's id and those that were merged into it."""
    person: Person
    requested_at: datetime
    is_swept: bool
    """Whether this is the second sweep."""


class ErasureJobs:
    """The erasures there are. Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        """Use `database`; wait `settle_seconds` before a second sweep."""
        self._database = database
        self._settle_seconds = settle_seconds

    async def request(self, contact_id: UUID) -> Erasure:
        """Forget a contact, and record what else is to be erased; the same again changes nothing.

        Raises:
            NotFound: no contact has this id, and none that had it was erased.
        """
        row = await storage.unless_changing(lambda: self._request(contact_id))
        if row is None:
            raise NotFound(f"there is no contact {contact_id}; `hogsend contacts show` finds some")
        return _described(row)

    async def _request(self, contact_id: UUID) -> Mapping[str, Any] | None:
        async with self._database.acquire() as connection, connection.transaction():
            if (contact := await storage.lock_owner(connection, contact_id)) is not None:
                await _forget(connection, contact.id)
            row: Mapping[str, Any] | None = await _queries.erasure(connection, id=contact_id)
        return row

    async def claim(self, *, begun: bool, most: int) -> list[Job]:
        """Take so many jobs that are due, of those that were begun or of the others."""
        async with self._database.acquire() as connection:
            rows = _queries.claim(connection, begun=begun, most=most, seconds=CLAIM_SECONDS)
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

    async def renew(self, jobs: Sequence[Job], *, begun: bool) -> None:
        """Go on having jobs that were taken, those whose step is done left out.

        Args:
            jobs: as they were claimed.
            begun: as they were claimed by.
        """
        async with self._database.acquire() as connection:
            await _queries.renew(
                connection,
                ids=[job.id for job in jobs],
                swept=[job.is_swept for job in jobs],
                begun=begun,
                seconds=CLAIM_SECONDS,
            )

    async def delete_events(self, job: Job) -> int:
        """Delete the stored events of the person, and their keys.

        Returns:
            Their number, which is recorded with each transaction already.
        """
        async with self._database.acquire() as connection:
            partitions = await listed(connection)
        deleted = 0
        for partition in partitions:
            while some := await self._delete_some(job, partition):
                deleted += some
        return deleted

    async def _delete_some(self, job: Job, partition: Partition) -> int:
        """Delete some of what is left in one partition; returns their number."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _queries.lock_events.sql,
                *(job.contact_ids, partition.relation, partition.begins, partition.ends),
                EVENTS_AT_ONCE,
                timeout=DELETE_SECONDS,
            )
            if rows:
                await known_events.forget(connection, [EventKey(*row[1:]) for row in rows])
                await _queries.delete_events(
                    connection,
                    relation=partition.relation,
                    begins=partition.begins,
                    ends=partition.ends,
                    places=[row[0] for row in rows],
                )
                # In one transaction: once they are deleted they cannot be counted again.
                await _queries.add_deleted(connection, id=job.id, events=len(rows), messages=0)
        return len(rows)

    async def begun(self, job: Job) -> None:
        """Remember that subscribers were told; the streams can be swept."""
        async with self._database.acquire() as connection:
            await _queries.mark_begun(connection, id=job.id)

    async def deleted(self, job: Job, *, messages: int) -> None:
        """Remember what a sweep deleted that did not come to its end."""
        async with self._database.acquire() as connection:
            await _queries.add_deleted(connection, id=job.id, events=0, messages=messages)

    async def swept(self, job: Job, *, messages: int) -> None:
        """Remember a sweep; the second one finishes the job."""
        async with self._database.acquire() as connection, connection.transaction():
            await _queries.add_deleted(connection, id=job.id, events=0, messages=messages)
            await _queries.mark_swept(connection, id=job.id, seconds=self._settle_seconds)
            if job.is_swept:
                await _queries.finish(connection, id=job.id)


async def _forget(connection: Any, id: UUID) -> None:
    keys = [row async for row in _queries.keys(connection, contact=id)]
    rows = [row["value"] for row in keys if row["kind"] == ROW]
    contacts = [id, *map(UUID, rows)]
    erased = [(row["kind"], row["digest"]) for row in keys if row["kind"] != ROW]
    erased += [(ROW, storage.digest(Key(ROW, str(contact)))) for contact in contacts]
    # A user id may be the contact's own id, which other services know it by.
    erased += [(EXTERNAL, storage.digest(Key(EXTERNAL, str(contact)))) for contact in contacts]
    person = Person.known_by((Key(row["kind"], row["value"]) for row in keys), contacts)
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


def _described(row: Mapping[str, Any]) -> Erasure:
    return Erasure(
        id=str(row["id"]),
        contact_id=str(row["contact_id"]),
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
        events=row["events"],
        messages=row["messages"],
    )
