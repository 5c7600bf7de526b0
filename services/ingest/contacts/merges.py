"""Lists the merges of contacts for operators, and undoes them (correction C5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql
import msgspec

from hogsend.contract.contacts import (
    ContactDetails,
    ContactKey,
    ContactList,
    ContactMerge,
)
from hogsend.contract.errors import NotFound
from hogsend.service.database import Database
from services.ingest.contacts import storage
from services.ingest.contacts.contact import EXTERNAL, ROW, Contact, Key
from services.ingest.contacts.lookup import ids_of
from services.ingest.contacts.moving import move_events
from services.ingest.contacts.records import contact_record, email_origin, origins
from services.ingest.contacts.separation import MergeRecord, undo

_queries: Any = aiosql.from_path(Path(__file__).with_name("merges.sql"), "asyncpg")
_encode = msgspec.json.Encoder().encode
_decode_contact = msgspec.json.Decoder(Contact).decode
_decode_keys = msgspec.json.Decoder(list[ContactKey]).decode


class ContactMerges:
    """Contacts with their merges. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> ContactList:
        """Return the contacts with a text as user id, row id or email, in this order."""
        async with self._database.acquire(snapshot=True) as connection:
            return await _details(connection, await ids_of(connection, key))

    async def split(self, merge_id: int) -> ContactList:
        """Undo a merge; does nothing if it is undone already.

        Returns:
            The survivor of the merge and the contact that was split from it, as they are now.

        Raises:
            NotFound: the merge does not exist.
            Unavailable: the contact has so many events that moving them takes longer than one
                request may; the next request continues.
        """
        await move_events(self._database, merge_id)
        return await storage.retry_conflicts(lambda: self._split(merge_id))

    async def _split(self, merge_id: int) -> ContactList:
        async with self._database.acquire() as connection, connection.transaction():
            merge = await _queries.lock_merge(connection, id=merge_id)
            if merge is None:
                raise NotFound(f"there is no merge {merge_id}; `hogsend contacts show` lists them")
            loser: UUID = merge["loser"]
            if merge["split_at"] is None:
                await self._undo(connection, merge)
            survivor = await _owner(connection, merge["survivor"])
            return await _details(connection, [survivor, await _owner(connection, loser)])

    async def _undo(self, connection: Any, merge: Mapping[str, Any]) -> None:
        loser: UUID = merge["loser"]
        current = await storage.lock_owner(connection, loser)
        if current is None:
            # The contact was erased, and the erasure is about to delete the merge's record.
            raise storage.ContactsMoved
        record = _record(merge)
        keys = [Key(key.kind, key.value) for key in record.keys]
        others = [
            _record(row)
            async for row in _queries.related_merges(connection, survivor=record.survivor_id)
            if row["id"] != record.id
        ]
        changed = undo(current, record, others)
        await storage.write(connection, [current, record.loser])
        for other in changed:
            await _queries.rewrite_merge(
                connection,
                id=other.id,
                loser_before=_encode(other.loser).decode(),
                survivor_before=_encode(other.survivor).decode() if other.survivor else None,
                loser_keys=_encode(other.keys).decode(),
            )
        await _queries.move_keys_back(
            connection,
            kinds=[key.kind for key in keys],
            digests=[storage.digest(key) for key in keys],
            current=current.id,
            loser=loser,
        )
        await _queries.delete_row_key(connection, digest=storage.digest(Key(ROW, str(loser))))
        # Most events were moved before this transaction; these arrived meanwhile.
        await _queries.move_events(
            connection,
            contacts=[current.id, record.survivor_id, *(other.survivor_id for other in others)],
            user_ids=[key.value for key in keys if key.kind == EXTERNAL],
            loser=loser,
        )
        await _queries.mark_split(connection, id=merge["id"])


def _record(row: Mapping[str, Any]) -> MergeRecord:
    survivor = row["survivor_before"]
    return MergeRecord(
        id=row["id"],
        survivor_id=row["survivor"],
        loser=_decode_contact(row["loser_before"]),
        survivor=None if survivor is None else _decode_contact(survivor),
        keys=_decode_keys(row["loser_keys"]),
    )


async def _owner(connection: Any, id: UUID) -> UUID:
    owner = await storage.owner(connection, id)
    if owner is None:
        raise storage.ContactsMoved
    return owner


async def _details(connection: Any, ids: Sequence[UUID]) -> ContactList:
    rows = [row async for row in _queries.details(connection, ids=ids)]
    return ContactList(
        contacts=[
            ContactDetails(
                **msgspec.structs.asdict(contact_record(row)),
                origins=origins(row),
                email_origin=email_origin(row),
                keys=_decode_keys(row["keys"]),
                key_count=row["key_count"],
                merges=[
                    _merge(merge) async for merge in _queries.merges(connection, contact=row["id"])
                ],
            )
            for row in rows
        ]
    )


def _merge(row: Mapping[str, Any]) -> ContactMerge:
    return ContactMerge(
        id=row["id"],
        at=row["at"],
        contact_id=str(row["loser"]),
        keys=sorted(_decode_keys(row["keys"]), key=lambda key: (key.kind, key.value)),
        split_at=row["split_at"],
    )
