"""Overlays writes that were sent through Hogsend on the persons that PostHog returns.

A write reaches PostHog through a queue, and PostHog's persons lag behind its events by seconds to
minutes. A service that sets a property and then reads it must get the new value. So every replica
receives each write when it is published, and applies it to the properties that PostHog returns
until PostHog returns the new value itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from cachetools import TTLCache

from hogsend.contract.base import Properties
from hogsend.posthog.capture import Captured
from hogsend.service.metrics import FAILURES
from services.analytics.persons.memory import CACHE_BYTES, memory_bytes

log = structlog.get_logger(__name__)

OVERLAY_SECONDS = 600.0
"""Longest time a write is overlaid: PostHog's pipeline is not expected to lag longer."""
MAX_PERSONS = 10_000
MAX_WRITE_BYTES = CACHE_BYTES // 16
"""Approximate memory limit for the writes to one person. A write beyond the limit is not
overlaid."""
RECORDING_SECONDS = 1.0
"""Longest wait of a read for writes that were received and are still being recorded, because their
project has to be determined first."""

REMOVED = msgspec.UNSET
_WRITE_BYTES = 256
"""Approximate memory of a write and its dictionary entry, without name and value."""
_PERSONLESS_EVENTS = frozenset({"$exception", "$$heatmap"})
"""Events from which PostHog updates no person properties."""
_AI_PREFIX = "$ai_"
"""Prefix of AI observability events: PostHog no longer updates persons from them."""


class _Write(msgspec.Struct, frozen=True):
    """A write to one property of one person."""

    value: Any
    """The new value; `REMOVED` when the property was unset."""
    only_if_missing: bool
    recorded_at: float
    """When it was recorded, in seconds on the monotonic clock that expires it."""
    written_at: datetime
    """When it was published. This orders the writes to a property."""
    bytes: int
    """Approximate memory use."""

    def is_visible_in(self, properties: Mapping[str, Any], name: str) -> bool:
        """Whether the properties that PostHog returned include this write to `name`."""
        if self.value is REMOVED:
            return name not in properties
        return name in properties and (self.only_if_missing or properties[name] == self.value)


_Writes = dict[str, _Write]


def _size(writes: _Writes) -> int:
    # The minimum limits the cache to `MAX_PERSONS` entries.
    return max(sum(write.bytes for write in writes.values()), CACHE_BYTES // MAX_PERSONS)


def changes_a_person(captured: Captured) -> bool:
    """Whether an event changes properties of its person."""
    return any(_changes(captured))


class OwnWrites:
    """Property writes by person and property; the latest write to each property counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By distinct id. A read or a later write renews the whole entry, so each write also expires
        # by its own `recorded_at`.
        self._writes: TTLCache[str, _Writes] = TTLCache(CACHE_BYTES, OVERLAY_SECONDS, clock, _size)
        # Ids of recorded events: the sending replica may both receive an event and send it.
        self._recorded: TTLCache[UUID, None] = TTLCache(MAX_PERSONS, OVERLAY_SECONDS, clock)
        # When each person was erased: the sending replica may record an earlier write afterwards.
        self._erased: TTLCache[str, datetime] = TTLCache(MAX_PERSONS, OVERLAY_SECONDS, clock)
        self._in_progress: set[asyncio.Future[None]] = set()
        self._catch_up: Callable[[], Awaitable[None]] | None = None

    def wait_before_reads(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        """Await `catch_up` before each read; it returns once published writes were received."""
        self._catch_up = catch_up

    def record(self, captured: Captured, written_at: datetime) -> None:
        """Record the property changes that an event makes to its person, if any.

        An event counts once. An event that was published before another, and is recorded after it,
        changes only properties that the other did not change.

        Args:
            captured: the event, as it is sent to PostHog.
            written_at: when the event was published.
        """
        changed, if_missing, removed = _changes(captured)
        if not (changed or if_missing or removed) or captured.uuid in self._recorded:
            return
        self._recorded[captured.uuid] = None
        erased_at = self._erased.get(captured.distinct_id)
        if erased_at is not None and written_at <= erased_at:
            return
        writes = self._recent(captured.distinct_id)

        def write(name: str, value: Any, *, only_if_missing: bool = False) -> None:
            before = writes.get(name)
            if before is None or before.written_at <= written_at:
                size = _WRITE_BYTES + len(name) + memory_bytes(value)
                writes[name] = _Write(value, only_if_missing, self._clock(), written_at, size)

        for name, value in if_missing.items():
            before = writes.get(name)
            if before is None or before.value is REMOVED:
                write(name, value, only_if_missing=before is None)
        for name, value in changed.items():
            write(name, value)
        for name in removed:
            write(name, REMOVED)
        if _size(writes) > MAX_WRITE_BYTES:
            FAILURES.labels("own_writes", "too_large").inc()
            log.warning("a write is too large to be overlaid on the properties PostHog returns")
            # Earlier writes to the same properties are dropped too: they are older than the values
            # that PostHog will return.
            earlier = self._recent(captured.distinct_id)
            writes = {
                name: write
                for name, write in earlier.items()
                if name not in changed and name not in removed
            }
        self._writes[captured.distinct_id] = writes

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Make reads wait while the block records a write."""
        done = asyncio.get_running_loop().create_future()
        self._in_progress.add(done)
        try:
            yield
        finally:
            self._in_progress.discard(done)
            done.set_result(None)

    async def wait_until_recorded(self) -> None:
        """Wait until published writes are recorded; two seconds at most."""
        if self._catch_up is not None:
            await self._catch_up()
        if self._in_progress:
            await asyncio.wait(set(self._in_progress), timeout=RECORDING_SECONDS)

    def now(self) -> float:
        """Seconds on the clock of `_Write.recorded_at`."""
        return self._clock()

    def drop_visible(
        self, distinct_id: str, properties: Mapping[str, Any], requested_at: float
    ) -> None:
        """Forget the writes that PostHog's response includes.

        Args:
            distinct_id: the person that was read.
            properties: the properties that PostHog returned.
            requested_at: when PostHog was asked, by `now`. Writes recorded later are kept.
        """
        writes = self._recent(distinct_id)
        if not writes:
            return
        remaining = {
            name: write
            for name, write in writes.items()
            if write.recorded_at > requested_at or not write.is_visible_in(properties, name)
        }
        if remaining:
            self._writes[distinct_id] = remaining
        else:
            del self._writes[distinct_id]

    def forget(self, distinct_ids: Iterable[str], until: datetime) -> None:
        """Forget writes to persons that were published up to `until`, also those recorded later."""
        for distinct_id in distinct_ids:
            # The erasure may be announced after this replica deleted the person in PostHog.
            self._erased[distinct_id] = max(until, self._erased.get(distinct_id, until))
            writes = self._recent(distinct_id)
            remaining = {name: write for name, write in writes.items() if write.written_at > until}
            if remaining:
                self._writes[distinct_id] = remaining
            else:
                self._writes.pop(distinct_id, None)

    def overlay(self, distinct_id: str, properties: Properties) -> Properties:
        """Return a person's properties from PostHog with the recorded writes applied."""
        writes = self._recent(distinct_id)
        if not writes:
            return properties
        overlaid = dict(properties)
        for name, write in writes.items():
            if write.value is REMOVED:
                overlaid.pop(name, None)
            elif not (write.only_if_missing and name in overlaid):
                overlaid[name] = write.value
        return overlaid

    def _recent(self, distinct_id: str) -> _Writes:
        """Return a new dictionary of a person's writes that have not expired."""
        oldest = self._clock() - OVERLAY_SECONDS
        writes = self._writes.get(distinct_id, {})
        return {name: write for name, write in writes.items() if write.recorded_at > oldest}


def _changes(
    captured: Captured,
) -> tuple[Mapping[str, Any], Mapping[str, Any], Sequence[str]]:
    """Return the properties that an event sets, sets if missing, and removes.

    Empty for events from which PostHog updates no person (`nodejs/src/ingestion`). Overlaid, their
    properties would be visible for `OVERLAY_SECONDS` and then disappear.
    """
    properties = captured.properties
    is_personless = captured.event in _PERSONLESS_EVENTS or captured.event.startswith(_AI_PREFIX)
    if is_personless or properties.get("$process_person_profile") is False:
        return {}, {}, ()
    return (
        _as_properties(properties.get("$set")),
        _as_properties(properties.get("$set_once")),
        _as_names(properties.get("$unset")),
    )


def _as_properties(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_names(value: object) -> Sequence[str]:
    if isinstance(value, dict):
        return list(value)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
