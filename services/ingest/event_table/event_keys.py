"""Finds out which events are stored, by a table of keys: an index covers one partition only.

A key exists as long as its event. When a partition is dropped, its keys exist for some hours longer
and are ignored. Events from before keys existed are searched in their table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiosql
import asyncpg

from hogsend.contract.headers import event_digest
from services.ingest.event_table.partitions import EARLIEST, LATEST, UNPARTITIONED, list_partitions
from services.ingest.incoming_event import EventKey, IncomingEvent

_queries: Any = aiosql.from_path(Path(__file__).with_name("event_keys.sql"), "asyncpg")
_RECEIVED_AT = _queries.received_at_of.sql

_DIGEST_BYTES = 16
_UUID_LENGTH = 36
_UUID_VERSION = 14
"""Index of the version's digit in a UUID."""
_INSTANT = timedelta(microseconds=1)


class Stored(NamedTuple):
    """An event that was in the database before a batch."""

    contact_key: str
    received_at: datetime
    backfilled: bool


def digest_of(key: EventKey) -> bytes:
    """The 16 bytes by which an event with this key is identified in the table of keys."""
    return shortened(event_digest(*key), key.id)


def shortened(digest: bytes, id: str) -> bytes:
    """The 16 bytes by which an event is identified in the table of keys.

    PostHog's ids start with a time (UUID version 7, RFC 9562), and their digests do, too. So keys
    that are written together are close to each other in the index. The other 10 bytes are of the
    SHA-256, and distinguish the events of one millisecond.

    Args:
        digest: the SHA-256 of the event's key.
        id: the event's id.
    """
    if len(id) == _UUID_LENGTH and id[_UUID_VERSION] == "7":
        try:
            time = bytes.fromhex(id[:8] + id[9:13])
        except ValueError:
            return digest[:_DIGEST_BYTES]
        return (time + digest)[:_DIGEST_BYTES]
    return digest[:_DIGEST_BYTES]


class EventKeys:
    """The keys of stored events; all methods are part of the caller's transaction."""

    def __init__(self) -> None:
        self._unkeyed_until: datetime | None = None
        """The end of the table of events without keys; None until it is read. The end only moves to
        earlier times. So an outdated value finds the same events, but reads more than needed."""

    async def read_bounds(self, connection: Any) -> None:
        """Read the time until which events without keys may exist."""
        for partition in await list_partitions(connection):
            if partition.name == UNPARTITIONED:
                self._unkeyed_until = partition.ends
                return
        self._unkeyed_until = EARLIEST

    async def find(
        self, connection: Any, events: Mapping[bytes, IncomingEvent]
    ) -> dict[bytes, Stored]:
        """Return those of `events` that are stored, by their digests."""
        stored: dict[bytes, Stored] = {}
        keys: dict[bytes, datetime] = dict(await connection.fetch(_RECEIVED_AT, list(events)))
        if keys:
            stored = await _find_stored(
                connection,
                [(digest, events[digest].key, at, at + _INSTANT) for digest, at in keys.items()],
            )
            # A replica of the previous version changes an event's time of receipt, when the webhook
            # of an event from a backfill arrives, but not its key.
            moved = keys.keys() - stored.keys()
            stored |= await _find_stored(
                connection, [(digest, events[digest].key, EARLIEST, LATEST) for digest in moved]
            )
            stored |= await self._without_event(
                connection, {digest: keys[digest] for digest in keys.keys() - stored.keys()}
            )
        if self._unkeyed_until is None:
            await self.read_bounds(connection)
        until = self._unkeyed_until
        if until is not None and until > EARLIEST:
            stored |= await _find_stored(
                connection,
                [
                    (digest, event.key, EARLIEST, until)
                    for digest, event in events.items()
                    if digest not in keys
                ],
            )
        return stored

    async def _without_event(
        self, connection: Any, keys: Mapping[bytes, datetime]
    ) -> dict[bytes, Stored]:
        """Treat keys without an event as stored events, unless the partition was dropped.

        Erasures and retention do not delete an event and its key at the same time, so a key may
        exist without its event. The keys of a dropped partition are deleted some hours later: an
        event of that time that arrives again is stored as a new one.
        """
        if not keys:
            return {}
        partitions = await list_partitions(connection)
        kept = {
            digest: Stored("", at, backfilled=False)
            for digest, at in keys.items()
            if any(partition.contains(at) for partition in partitions)
        }
        if dropped := keys.keys() - kept.keys():
            await _queries.forget(connection, digests=sorted(dropped))
        return kept

    def clear_bounds(self) -> None:
        """Have the bounds read again, for example because a backup was restored."""
        self._unkeyed_until = None

    async def remember(self, connection: Any, events: Mapping[bytes, IncomingEvent]) -> None:
        """Store the keys of new events.

        Raises:
            asyncpg.UniqueViolationError: another transaction stored one of them meanwhile.
        """
        await connection.copy_records_to_table(
            "event_keys",
            columns=("digest", "received_at"),
            # In order, so that two transactions cannot deadlock.
            records=[(digest, events[digest].received_at) for digest in sorted(events)],
        )

    async def move(self, connection: Any, events: Mapping[bytes, IncomingEvent]) -> None:
        """Store the new time of receipt of events."""
        digests = sorted(events)
        await _queries.move_keys(
            connection,
            digests=digests,
            received_at=[events[digest].received_at for digest in digests],
        )


def is_of_unkeyed(error: asyncpg.PostgresError) -> bool:
    """Whether PostgreSQL rejected an event that is stored already without a key."""
    is_duplicate = isinstance(error, asyncpg.UniqueViolationError)
    return is_duplicate and getattr(error, "table_name", None) == UNPARTITIONED


async def forget(connection: Any, keys: Iterable[EventKey]) -> None:
    """Delete the keys of events that are erased."""
    await _queries.forget(connection, digests=[digest_of(key) for key in keys])


async def _find_stored(
    connection: Any, queries: Sequence[tuple[bytes, EventKey, datetime, datetime]]
) -> dict[bytes, Stored]:
    """Find events by their keys, each among those received in a span.

    Args:
        connection: of the caller's transaction.
        queries: for each event its digest, its key, and the start and end of the span.
    """
    if not queries:
        return {}
    digests, keys, since, before = zip(*queries, strict=True)
    sources, ids, names, user_ids = zip(*keys, strict=True)
    rows = _queries.stored_events(
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
        async for position, received_at, backfilled, contact_key in rows
    }
