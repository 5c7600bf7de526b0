"""Which events are stored: by keys beside the partitions, of which each knows only its own events.

A key is there as long as its event, and some hours longer where old events are dropped: it counts
for nothing then. Events from before there were keys are looked for in the table that they lie in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiosql
import asyncpg
import msgspec

from services.ingest.event_table.partitions import EARLIEST, LATEST, UNPARTITIONED, listed
from services.ingest.incoming_event import EventKey, IncomingEvent

_queries: Any = aiosql.from_path(Path(__file__).with_name("known_events.sql"), "asyncpg")
_KNOWN = _queries.known.sql

_DIGEST_BYTES = 16
_UUID_LENGTH = 36
_UUID_VERSION = 14
"""Where the digit of the version is."""
_INSTANT = timedelta(microseconds=1)


class Stored(NamedTuple):
    """An event that was in the database before a batch."""

    contact_key: str
    received_at: datetime
    backfilled: bool


def digest_of(key: EventKey) -> bytes:
    """What an event is known by, 16 bytes.

    Ids of PostHog begin with their time (UUID version 7, RFC 9562), and so does the digest then:
    keys that are written together lie together in the index. The rest, 10 bytes of SHA-256, tells
    those of one millisecond.
    """
    digest = hashlib.sha256(msgspec.json.encode(key)).digest()
    id = key.id
    if len(id) == _UUID_LENGTH and id[_UUID_VERSION] == "7":
        try:
            time = bytes.fromhex(id[:8] + id[9:13])
        except ValueError:
            return digest[:_DIGEST_BYTES]
        return (time + digest)[:_DIGEST_BYTES]
    return digest[:_DIGEST_BYTES]


class KnownEvents:
    """Keys of stored events; its methods are part of the caller's transaction."""

    def __init__(self) -> None:
        self._unkeyed_until: datetime | None = None
        """Where the table of events without keys ends; None before that was looked up. It comes
        nearer, so an old value finds the same events, and looks at more than it must."""

    async def look_up_bounds(self, connection: Any) -> None:
        """Find out where there may be events without keys."""
        for partition in await listed(connection):
            if partition.name == UNPARTITIONED:
                self._unkeyed_until = partition.ends
                return
        self._unkeyed_until = EARLIEST

    async def find(
        self, connection: Any, events: Mapping[bytes, IncomingEvent]
    ) -> dict[bytes, Stored]:
        """Say which of `events`, by their digests, are stored."""
        found: dict[bytes, Stored] = {}
        known: dict[bytes, datetime] = dict(await connection.fetch(_KNOWN, list(events)))
        if known:
            found = await _stored(
                connection,
                [(one, events[one].key, at, at + _INSTANT) for one, at in known.items()],
            )
            # A replica of the version before moves an event of a backfill that comes as it
            # happened, and knows of no keys.
            elsewhere = known.keys() - found.keys()
            found |= await _stored(
                connection, [(one, events[one].key, EARLIEST, LATEST) for one in elsewhere]
            )
            found |= await self._without_event(
                connection, {one: known[one] for one in known.keys() - found.keys()}
            )
        if self._unkeyed_until is None:
            await self.look_up_bounds(connection)
        until = self._unkeyed_until
        if until is not None and until > EARLIEST:
            found |= await _stored(
                connection,
                [
                    (digest, event.key, EARLIEST, until)
                    for digest, event in events.items()
                    if digest not in known
                ],
            )
        return found

    async def _without_event(
        self, connection: Any, known: Mapping[bytes, datetime]
    ) -> dict[bytes, Stored]:
        """Take keys without their event for what is stored, unless its partition was dropped.

        What erases events does not reach all keys in the same moment. What was dropped is not kept
        any more, and comes again as a new event: the keys are swept some hours later.
        """
        if not known:
            return {}
        partitions = await listed(connection)
        kept = {
            digest: Stored("", at, backfilled=False)
            for digest, at in known.items()
            if any(one.holds(at) for one in partitions)
        }
        if dropped := known.keys() - kept.keys():
            await _queries.forget(connection, digests=sorted(dropped))
        return kept

    def forget_bounds(self) -> None:
        """Have the bounds looked up anew: a backup was restored, for example."""
        self._unkeyed_until = None

    async def remember(self, connection: Any, events: Mapping[bytes, IncomingEvent]) -> None:
        """Keep the keys of new events.

        Raises:
            asyncpg.UniqueViolationError: another transaction stored one of them meanwhile.
        """
        await connection.copy_records_to_table(
            "event_keys",
            columns=("digest", "received_at"),
            # In order, so that two transactions cannot wait for each other.
            records=[(digest, events[digest].received_at) for digest in sorted(events)],
        )

    async def move(self, connection: Any, events: Mapping[bytes, IncomingEvent]) -> None:
        """Keep that events have another time of receipt."""
        digests = sorted(events)
        await _queries.move_keys(
            connection,
            digests=digests,
            received_at=[events[digest].received_at for digest in digests],
        )


def is_of_unkeyed(error: asyncpg.PostgresError) -> bool:
    """Whether PostgreSQL refused an event that is stored already, and has no key."""
    is_there = isinstance(error, asyncpg.UniqueViolationError)
    return is_there and getattr(error, "table_name", None) == UNPARTITIONED


async def forget(connection: Any, keys: Iterable[EventKey]) -> None:
    """Forget the keys of events that are erased."""
    await _queries.forget(connection, digests=[digest_of(key) for key in keys])


async def _stored(
    connection: Any, wanted: Sequence[tuple[bytes, EventKey, datetime, datetime]]
) -> dict[bytes, Stored]:
    """Find events received within a time each."""
    if not wanted:
        return {}
    digests, keys, since, before = zip(*wanted, strict=True)
    sources, ids, names, user_ids = zip(*keys, strict=True)
    found = _queries.stored_events(
        connection,
        sources=sources,
        ids=ids,
        names=names,
        user_ids=user_ids,
        since=since,
        before=before,
    )
    return {
        digests[position - 1]: Stored(contact_key, received_at, backfilled)
        async for position, received_at, backfilled, contact_key in found
    }
