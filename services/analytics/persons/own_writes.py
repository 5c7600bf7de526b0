"""What was written to persons from here, until PostHog shows it.

A write reaches PostHog through a queue, and PostHog's persons lag behind its events by seconds to
minutes. A service that sets a property and asks for it must not be told the old value. So every
replica hears each write as it is published, and lays it over what PostHog answers.
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
from services.analytics.persons.memory import KEPT_BYTES, bytes_of

log = structlog.get_logger(__name__)

KEPT_SECONDS = 600.0
"""How long a write is laid over at most: PostHog's pipeline is not expected to lag longer."""
KEPT_PERSONS = 10_000
MOST_BYTES = KEPT_BYTES // 16
"""About the memory that the writes to one person may take; what would be more is not laid over."""
NOTED_SECONDS = 1.0
"""How long a read waits for writes that were heard and whose project has to be found out."""

REMOVED = msgspec.UNSET
_WRITE_BYTES = 256
"""Of a write and its place, without name and value."""
_OF_NO_PERSON = frozenset({"$exception", "$$heatmap"})
"""Events from which PostHog takes no properties of a person."""
_OF_AI = "$ai_"
"""How the name of an event of AI observability begins: PostHog takes none from it any more."""


class _Write(msgspec.Struct, frozen=True):
    """The value a property was given."""

    value: Any
    """`REMOVED` for one that was unset."""
    only_if_missing: bool
    at: float
    """When it was noted, by the clock that ages it."""
    written_at: datetime
    """When it was published, which orders the writes."""
    bytes: int
    """How much memory it takes, about."""

    def is_shown_by(self, found: Mapping[str, Any], name: str) -> bool:
        """Whether PostHog's answer has it already."""
        if self.value is REMOVED:
            return name not in found
        return name in found and (self.only_if_missing or found[name] == self.value)


_Writes = dict[str, _Write]


def _size(writes: _Writes) -> int:
    # Of small ones as many are kept as of persons.
    return max(sum(write.bytes for write in writes.values()), KEPT_BYTES // KEPT_PERSONS)


def changes_a_person(captured: Captured) -> bool:
    """Whether an event changes properties of its person."""
    return any(_changes(captured))


class OwnWrites:
    """Property writes by person and property; the last one of each counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By person. Reads and later writes renew an entry, so each write is aged by itself as well.
        self._writes: TTLCache[str, _Writes] = TTLCache(KEPT_BYTES, KEPT_SECONDS, clock, _size)
        # Events that were noted: one that is heard and sent from here comes twice.
        self._noted: TTLCache[UUID, None] = TTLCache(KEPT_PERSONS, KEPT_SECONDS, clock)
        # When a person was erased: an earlier write may be noted only then, by who sends it.
        self._erased: TTLCache[str, datetime] = TTLCache(KEPT_PERSONS, KEPT_SECONDS, clock)
        self._being_noted: set[asyncio.Future[None]] = set()
        self._catch_up: Callable[[], Awaitable[None]] | None = None

    def catch_up_by(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        """Await `catch_up` before each read: it returns once what was published is heard."""
        self._catch_up = catch_up

    def note(self, captured: Captured, written_at: datetime) -> None:
        """Note what an event on its way to PostHog changes of its person, if anything.

        An event counts once. One that was published before another, and is noted after it, changes
        only what the other did not.
        """
        changed, once, removed = _changes(captured)
        if not (changed or once or removed) or captured.uuid in self._noted:
            return
        self._noted[captured.uuid] = None
        erased_at = self._erased.get(captured.distinct_id)
        if erased_at is not None and written_at <= erased_at:
            return
        writes = self._recent(captured.distinct_id)

        def write(name: str, value: Any, *, only_if_missing: bool = False) -> None:
            before = writes.get(name)
            if before is None or before.written_at <= written_at:
                size = _WRITE_BYTES + len(name) + bytes_of(value)
                writes[name] = _Write(value, only_if_missing, self._clock(), written_at, size)

        for name, value in once.items():
            before = writes.get(name)
            if before is None or before.value is REMOVED:
                write(name, value, only_if_missing=before is None)
        for name, value in changed.items():
            write(name, value)
        for name in removed:
            write(name, REMOVED)
        if _size(writes) > MOST_BYTES:
            FAILURES.labels("own_writes", "too_large").inc()
            log.warning("a write too large to be laid over what PostHog answers of its person")
            # Nor is what it replaces, which is older than what PostHog will answer.
            earlier = self._recent(captured.distinct_id)
            writes = {
                name: one
                for name, one in earlier.items()
                if name not in changed and name not in removed
            }
        self._writes[captured.distinct_id] = writes

    @contextmanager
    def being_noted(self) -> Iterator[None]:
        """Let reads wait while, in the block, a write that was heard is noted."""
        done = asyncio.get_running_loop().create_future()
        self._being_noted.add(done)
        try:
            yield
        finally:
            self._being_noted.discard(done)
            done.set_result(None)

    async def are_noted(self) -> None:
        """Wait until writes that were published are noted, at most a second or two."""
        if self._catch_up is not None:
            await self._catch_up()
        if self._being_noted:
            await asyncio.wait(set(self._being_noted), timeout=NOTED_SECONDS)

    def now(self) -> float:
        """A moment to compare writes with."""
        return self._clock()

    def caught_up(self, distinct_id: str, found: Mapping[str, Any], asked_at: float) -> None:
        """Forget the writes that PostHog's answer to a request of `asked_at` shows."""
        writes = self._recent(distinct_id)
        if not writes:
            return
        left = {
            name: write
            for name, write in writes.items()
            if write.at > asked_at or not write.is_shown_by(found, name)
        }
        if left:
            self._writes[distinct_id] = left
        else:
            del self._writes[distinct_id]

    def forget(self, distinct_ids: Iterable[str], until: datetime) -> None:
        """Forget what was written to persons up to that moment, also if it is noted later."""
        for distinct_id in distinct_ids:
            # What announces an erasure may come after PostHog has deleted the person.
            self._erased[distinct_id] = max(until, self._erased.get(distinct_id, until))
            writes = self._recent(distinct_id)
            if left := {name: one for name, one in writes.items() if one.written_at > until}:
                self._writes[distinct_id] = left
            else:
                self._writes.pop(distinct_id, None)

    def laid_over(self, distinct_id: str, found: Properties) -> Properties:
        """Give a person's properties with what was written since."""
        writes = self._recent(distinct_id)
        if not writes:
            return found
        seen = dict(found)
        for name, write in writes.items():
            if write.value is REMOVED:
                seen.pop(name, None)
            elif not (write.only_if_missing and name in seen):
                seen[name] = write.value
        return seen

    def _recent(self, distinct_id: str) -> _Writes:
        """Those of a person's writes that still count, in a dictionary of the caller's."""
        oldest = self._clock() - KEPT_SECONDS
        writes = self._writes.get(distinct_id, {})
        return {name: write for name, write in writes.items() if write.at > oldest}


def _changes(
    captured: Captured,
) -> tuple[Mapping[str, Any], Mapping[str, Any], Sequence[str]]:
    """What an event sets, sets where there is nothing, and removes.

    Nothing where PostHog leaves the person alone (`nodejs/src/ingestion`): read from here, it would
    be there for as long as a write is laid over, and then be gone.
    """
    properties = captured.properties
    is_of_none = captured.event in _OF_NO_PERSON or captured.event.startswith(_OF_AI)
    if is_of_none or properties.get("$process_person_profile") is False:
        return {}, {}, ()
    return (
        _bag(properties.get("$set")),
        _bag(properties.get("$set_once")),
        _names(properties.get("$unset")),
    )


def _bag(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _names(value: object) -> Sequence[str]:
    if isinstance(value, dict):
        return list(value)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
