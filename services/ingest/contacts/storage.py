"""The contacts of a batch in PostgreSQL, inside the transaction that stores the batch.

`lock` comes first and `save` last, and nothing else may write contacts. See `events.store` for the
order in which locks are taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import aiosql
import asyncpg
import msgspec
import stamina

from hogsend.contract.base import Properties
from hogsend.contract.errors import Unavailable
from services.ingest.contacts.contact import (
    ROW,
    Contact,
    Key,
    Version,
    moment_of,
    version_at,
)
from services.ingest.contacts.identity_resolution import IdentityResolver, Merged, keys_of
from services.ingest.incoming_event import IncomingEvent

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")
# Of many rows each costs a turn of aiosql's generators, as much as PostgreSQL's protocol.
_OWNERS, _LOCK = _queries.owners.sql, _queries.lock_contacts.sql
_RECORD_MERGE = _queries.record_merge.sql

_encode = msgspec.json.Encoder().encode
_decode_properties = msgspec.json.Decoder(Properties).decode
_decode_versions = msgspec.json.Decoder(dict[str, Version]).decode
_decode_version = msgspec.json.Decoder(Version).decode

_Changed = TypeVar("_Changed")
_ATTEMPTS = 5

LOCK_STRIPES = 1024
"""Advisory locks that all contact keys share; one for each key could fill PostgreSQL's lock table.

Keys that share one only wait for each other.
"""


class ContactsMoved(Exception):
    """Another transaction merged a contact while this one waited for its row; start again."""


CONFLICTS = (ContactsMoved, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What ends a transaction that changes contacts because of another one; start it again."""


async def unless_changing(change: Callable[[], Awaitable[_Changed]]) -> _Changed:
    """Do what an operator asked for, again when another transaction is why it ended.

    Raises:
        Unavailable: others change the same contacts all the time.
    """
    try:
        async for attempt in stamina.retry_context(
            on=CONFLICTS, attempts=_ATTEMPTS, timeout=None, wait_initial=0.01, wait_max=0.5
        ):
            with attempt:
                return await change()
    except CONFLICTS as error:
        raise Unavailable("these contacts are changing; try again") from error
    raise AssertionError("the last attempt returns or raises")


def digests_of(events: Sequence[IncomingEvent]) -> dict[Key, bytes]:
    """Every key that may lead to the contact of one of `events`, with its digest."""
    keys = dict.fromkeys(key for event in events for key in keys_of(event))
    return {key: digest(key) for key in keys}


async def lock(
    connection: Any, digests: Mapping[Key, bytes]
) -> tuple[IdentityResolver, dict[Key, datetime]]:
    """Lock the contacts that keys lead to, and every key without a contact.

    Returns:
        The contacts, and those keys that belonged to an erased person, with when that was. An
        erasure removes the contact it locks, so what was read before the lock holds after it.

    Raises:
        ContactsMoved: roll back and try again.
    """
    found, erased = await _look_up(connection, digests)
    # A row id is a random uuid of ours: no transaction is about to give one to a new contact.
    missing = [digests[key] for key in digests.keys() - found.keys() if key.kind != ROW]
    if missing:
        # A key without a contact has no row to lock, so two transactions could both create its
        # contact. The stripe's advisory lock decides which one does. The one that waited asks
        # again, because by then the other may have created it.
        await _queries.lock_stripes(connection, stripes=stripes(missing))
        found, erased = await _look_up(connection, digests)
    ids = sorted(set(found.values()))
    contacts = [_contact(row) for row in await connection.fetch(_LOCK, ids)]
    if len(contacts) < len(ids):
        # A merge deletes the row of the contact that does not survive. Its keys have led elsewhere
        # since, and the transaction's snapshot of `found` is out of date.
        raise ContactsMoved
    was_split = any(contact.kept_apart for contact in contacts)
    if was_split and await owners(connection, digests) != found:
        # A split moves keys away from a contact that stays.
        raise ContactsMoved
    return IdentityResolver(contacts, found), erased


async def lock_owner(connection: Any, id: UUID) -> Contact | None:
    """Lock the contact that a contact's id leads to by now; None if there is none.

    Raises:
        ContactsMoved: it leads to another one meanwhile; roll back and try again.
    """
    if (found := await owner(connection, id)) is None:
        return None
    rows = await connection.fetch(_LOCK, [found])
    # A merge removes the contact that was waited for. A split leaves it, and takes the id from it.
    if not rows or await owner(connection, id) != found:
        raise ContactsMoved
    return _contact(rows[0])


async def write(connection: Any, contacts: Sequence[Contact]) -> None:
    """Write contacts that are locked, or that do not exist yet, in order of their ids."""
    ordered = sorted(contacts, key=lambda contact: contact.id)
    await _queries.save_contacts(connection, contacts=_encode(ordered).decode())


async def _see(connection: Any, seen: Sequence[tuple[Contact, Version | None]]) -> None:
    await _queries.see_contacts(
        connection,
        ids=[contact.id for contact, _ in seen],
        first_seen_at=[contact.first_seen_at for contact, _ in seen],
        last_seen_at=[contact.last_seen_at for contact, _ in seen],
        restated_at=[version and moment_of(version) for _, version in seen],
        restated_by=[version and version[1] for _, version in seen],
    )


async def save(connection: Any, resolver: IdentityResolver, digests: Mapping[Key, bytes]) -> None:
    """Write what `resolver` changed; the digests are those that `lock` got."""
    if merged := resolver.merged():
        losers, survivors = list(merged), list(merged.values())
        # First: afterwards the keys are those of one person. One by one: a contact that many are
        # merged into may be large, and is written with each.
        await connection.executemany(_RECORD_MERGE, map(_record, resolver.merges()))
    whole, seen = resolver.written()
    if whole:
        await write(connection, whole)
    if seen:
        await _see(connection, seen)
    if new_keys := resolver.new_keys():
        await _queries.save_keys(
            connection,
            kinds=[key.kind for key in new_keys],
            # No event names the key that a merge creates, the row id of the contact that is gone.
            digests=[digests.get(key) or digest(key) for key in new_keys],
            key_values=[key.value for key in new_keys],
            contact_ids=list(new_keys.values()),
        )
    if merged:
        await _queries.move_keys(connection, losers=losers, survivors=survivors)
        await _queries.delete_contacts(connection, ids=losers)


def _record(merge: Merged) -> tuple[object, ...]:
    return (
        *(merge.loser.id, merge.survivor.id),
        *(_encode(one).decode() for one in (merge.loser, merge.survivor)),
        merge.parts,
        [key.kind for key in merge.new_keys],
        [key.value for key in merge.new_keys],
    )


async def owners(connection: Any, digests: Mapping[Key, bytes]) -> dict[Key, UUID]:
    """The contacts that keys, given with their digests, lead to."""
    found, _ = await _look_up(connection, digests)
    return found


async def erased(connection: Any, digests: Mapping[Key, bytes]) -> dict[Key, datetime]:
    """Those keys, given with their digests, that belonged to an erased person; with when."""
    _, found = await _look_up(connection, digests)
    return found


async def owner(connection: Any, id: UUID) -> UUID | None:
    """The contact that a contact's id leads to by now."""
    key = Key(ROW, str(id))
    return (await owners(connection, {key: digest(key)})).get(key)


async def _look_up(
    connection: Any, digests: Mapping[Key, bytes]
) -> tuple[dict[Key, UUID], dict[Key, datetime]]:
    keys = list(digests)
    found: dict[Key, UUID] = {}
    erased: dict[Key, datetime] = {}
    alive: dict[Key, UUID] = {}
    for place, contact_id, erased_at in await connection.fetch(
        _OWNERS,
        [key.kind for key in keys],
        list(digests.values()),
        [UUID(key.value) for key in keys if key.kind == ROW],
    ):
        if place is None:
            alive[Key(ROW, str(contact_id))] = contact_id
        elif contact_id is None:
            erased[keys[place - 1]] = erased_at
        else:
            found[keys[place - 1]] = contact_id
    return found | alive, erased


def digest(key: Key) -> bytes:
    """The SHA-256 that a key is stored and found by; its text may be too long for an index."""
    return hashlib.sha256(key.value.encode()).digest()


def stripes(digests: Iterable[bytes]) -> list[int]:
    """Numbers of the advisory locks of keys, in the order in which they are taken."""
    return sorted({int.from_bytes(digest[:4], "big") % LOCK_STRIPES for digest in digests})


def _contact(row: Mapping[str, Any]) -> Contact:
    version = row["email_version"]
    contact = Contact(
        id=row["id"],
        source=row["source"],
        created_at=row["created_at"],
        external_id=row["external_id"],
        email=row["email"],
        email_version=None if version is None else _decode_version(version),
        properties=_decode_properties(row["properties"]),
        timezone=row["timezone"],
        versions=_decode_versions(row["versions"]),
        kept_apart=row["kept_apart"],
        first_seen_at=row["first_seen_at"],
        last_seen_at=row["last_seen_at"],
    )
    if row["restated_at"] is not None:
        contact.restate(version_at(row["restated_at"], row["restated_by"]))
    return contact
