"""Reads, locks and writes the contacts of a batch, within the transaction that stores the batch.

`lock` is called first and `save` last, and nothing in between may write contacts. `events.store`
describes the order in which locks are acquired.
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

from hogsend.contract.base import Properties
from hogsend.contract.errors import Unavailable
from hogsend.service.retry import retry_after_conflict
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
# Used without aiosql: its generators cost as much for each row as PostgreSQL's protocol.
_OWNERS, _LOCK = _queries.owners.sql, _queries.lock_contacts.sql
_RECORD_MERGE = _queries.record_merge.sql

_encode = msgspec.json.Encoder().encode
_decode_properties = msgspec.json.Decoder(Properties).decode
_decode_versions = msgspec.json.Decoder(dict[str, Version]).decode
_decode_version = msgspec.json.Decoder(Version).decode

_Changed = TypeVar("_Changed")
_ATTEMPTS = 5

LOCK_STRIPES = 1024
"""Number of advisory locks that all contact keys share. One lock for each key could fill
PostgreSQL's lock table. Keys that share a lock wait for each other unnecessarily, nothing else.
"""


class ContactsMoved(Exception):
    """Another transaction merged or split a contact while this one waited for its row; retry."""


CONFLICTS = (ContactsMoved, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Errors that end a transaction because another one changes the same contacts; retry it."""


async def retry_conflicts(change: Callable[[], Awaitable[_Changed]]) -> _Changed:
    """Do a change that an operator requested; retry it after a conflict with another transaction.

    Raises:
        Unavailable: other transactions kept changing the same contacts.
    """
    try:
        return await retry_after_conflict(
            change,
            is_conflict=lambda error: isinstance(error, CONFLICTS),
            attempts=_ATTEMPTS,
            wait_max=0.5,
            wait_jitter=0.5,
        )
    except CONFLICTS as error:
        raise Unavailable("these contacts are changing; try again") from error


def digests_of(events: Sequence[IncomingEvent]) -> dict[Key, bytes]:
    """Return every key by which the contact of one of `events` may be found, with its digest."""
    keys = dict.fromkeys(key for event in events for key in keys_of(event))
    return {key: digest(key) for key in keys}


async def lock(
    connection: Any, digests: Mapping[Key, bytes]
) -> tuple[IdentityResolver, dict[Key, datetime]]:
    """Lock the contacts of keys, and every key without a contact.

    Returns:
        The contacts, and the keys of erased people with the time of the erasure. These need not be
        read again after the lock: an erasure deletes the contact that it locks.

    Raises:
        ContactsMoved: roll back and try again.
    """
    owner_of, erased = await _look_up(connection, digests)
    # A row id is a random uuid that Hogsend generated: no transaction creates a contact for one.
    missing = [digests[key] for key in digests.keys() - owner_of.keys() if key.kind != ROW]
    if missing:
        # A key without a contact has no row to lock, so two transactions could both create its
        # contact. The stripe's advisory lock decides which one does. The one that waited looks the
        # key up again, because the other may have created the contact by then.
        await _queries.lock_stripes(connection, stripes=stripes(missing))
        owner_of, erased = await _look_up(connection, digests)
    ids = sorted(set(owner_of.values()))
    contacts = [_contact(row) for row in await connection.fetch(_LOCK, ids)]
    if len(contacts) < len(ids):
        # A merge deleted the row of a contact that did not survive. Its keys have another owner
        # now, and `owner_of` is out of date.
        raise ContactsMoved
    was_split = any(contact.kept_apart for contact in contacts)
    if was_split and await owners(connection, digests) != owner_of:
        # A split moves keys away from a contact that continues to exist.
        raise ContactsMoved
    return IdentityResolver(contacts, owner_of), erased


async def lock_owner(connection: Any, id: UUID) -> Contact | None:
    """Lock the contact that has a contact's id as a key now; None if it does not exist.

    Raises:
        ContactsMoved: the id got another owner meanwhile; roll back and try again.
    """
    if (owner_id := await owner(connection, id)) is None:
        return None
    rows = await connection.fetch(_LOCK, [owner_id])
    # While this transaction waited, a merge may have deleted the contact, or a split taken the id
    # from it.
    if not rows or await owner(connection, id) != owner_id:
        raise ContactsMoved
    return _contact(rows[0])


async def write(connection: Any, contacts: Sequence[Contact]) -> None:
    """Write contacts that are locked or that do not exist yet, in order of their ids."""
    ordered = sorted(contacts, key=lambda contact: contact.id)
    await _queries.save_contacts(connection, contacts=_encode(ordered).decode())


async def _mark_seen(connection: Any, seen: Sequence[tuple[Contact, Version | None]]) -> None:
    await _queries.mark_seen(
        connection,
        ids=[contact.id for contact, _ in seen],
        first_seen_at=[contact.first_seen_at for contact, _ in seen],
        last_seen_at=[contact.last_seen_at for contact, _ in seen],
        restated_at=[version and moment_of(version) for _, version in seen],
        restated_by=[version and version[1] for _, version in seen],
    )


async def save(connection: Any, resolver: IdentityResolver, digests: Mapping[Key, bytes]) -> None:
    """Write the changes of `resolver`; `digests` are those that were passed to `lock`."""
    if merged := resolver.merged():
        losers, survivors = list(merged), list(merged.values())
        # Before the keys are moved, because a record contains the loser's keys. One by one: each
        # record contains the survivor, which may be large.
        await connection.executemany(_RECORD_MERGE, map(_record, resolver.merges()))
    full, seen = resolver.changed()
    if full:
        await write(connection, full)
    if seen:
        await _mark_seen(connection, seen)
    if new_keys := resolver.new_keys():
        await _queries.save_keys(
            connection,
            kinds=[key.kind for key in new_keys],
            # A merge creates a key that is in no event: the id of the contact that was merged.
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
        *(_encode(contact).decode() for contact in (merge.loser, merge.survivor)),
        merge.parts,
        [key.kind for key in merge.new_keys],
        [key.value for key in merge.new_keys],
    )


async def owners(connection: Any, digests: Mapping[Key, bytes]) -> dict[Key, UUID]:
    """Return the contacts of keys, which are given with their digests."""
    owner_of, _ = await _look_up(connection, digests)
    return owner_of


async def erased(connection: Any, digests: Mapping[Key, bytes]) -> dict[Key, datetime]:
    """Return the keys of erased people among `digests`, with the time of the erasure."""
    _, erased_at = await _look_up(connection, digests)
    return erased_at


async def owner(connection: Any, id: UUID) -> UUID | None:
    """Return the contact with this id, or the one it was merged into; None if neither exists."""
    key = Key(ROW, str(id))
    return (await owners(connection, {key: digest(key)})).get(key)


async def _look_up(
    connection: Any, digests: Mapping[Key, bytes]
) -> tuple[dict[Key, UUID], dict[Key, datetime]]:
    keys = list(digests)
    owner_of: dict[Key, UUID] = {}
    erased: dict[Key, datetime] = {}
    by_own_id: dict[Key, UUID] = {}
    for place, contact_id, erased_at in await connection.fetch(
        _OWNERS,
        [key.kind for key in keys],
        list(digests.values()),
        [UUID(key.value) for key in keys if key.kind == ROW],
    ):
        if place is None:
            by_own_id[Key(ROW, str(contact_id))] = contact_id
        elif contact_id is None:
            erased[keys[place - 1]] = erased_at
        else:
            owner_of[keys[place - 1]] = contact_id
    return owner_of | by_own_id, erased


def digest(key: Key) -> bytes:
    """The SHA-256 by which a key is stored and found; its text may be too long for an index."""
    return hashlib.sha256(key.value.encode()).digest()


def stripes(digests: Iterable[bytes]) -> list[int]:
    """The numbers of the keys' advisory locks, in the order in which they are acquired."""
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
