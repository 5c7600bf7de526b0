"""What was written to persons from here, until PostHog shows it.

A write reaches PostHog through a queue, and PostHog's persons lag behind its events by seconds to
minutes. A service that sets a property and asks for it must not be told the old value. So every
replica hears each write as it is published, and lays it over what PostHog answers. What captured
events and buckets set is known to the replica that sends them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from cachetools import TTLCache

from hogsend.contract.base import Properties
from hogsend.posthog.capture import Captured

KEPT_SECONDS = 600.0
"""How long a write is laid over at most: PostHog's pipeline is not expected to lag longer."""
KEPT_PERSONS = 10_000

REMOVED = msgspec.UNSET


class _Write(msgspec.Struct, frozen=True):
    """The value a property was given."""

    value: Any
    """`REMOVED` for one that was unset."""
    only_if_missing: bool
    at: float

    def is_shown_by(self, found: Mapping[str, Any], name: str) -> bool:
        """Whether PostHog's answer has it already."""
        if self.value is REMOVED:
            return name not in found
        return name in found and (self.only_if_missing or found[name] == self.value)


class OwnWrites:
    """Property writes by person and property; the last one of each counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By person. Reads and later writes renew an entry, so each write is aged by itself as well.
        self._writes: TTLCache[str, dict[str, _Write]] = TTLCache(KEPT_PERSONS, KEPT_SECONDS, clock)

    def note(self, captured: Captured) -> None:
        """Note what an event on its way to PostHog changes of its person, if anything."""
        properties = captured.properties
        changed = _bag(properties.get("$set"))
        once, removed = _bag(properties.get("$set_once")), _names(properties.get("$unset"))
        if not (changed or once or removed):
            return
        now = self._clock()
        writes = self._recent(captured.distinct_id)
        for name, value in once.items():
            before = writes.get(name)
            if before is None or before.value is REMOVED:
                writes[name] = _Write(value, only_if_missing=before is None, at=now)
        for name, value in changed.items():
            writes[name] = _Write(value, only_if_missing=False, at=now)
        for name in removed:
            writes[name] = _Write(REMOVED, only_if_missing=False, at=now)
        self._writes[captured.distinct_id] = writes

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

    def _recent(self, distinct_id: str) -> dict[str, _Write]:
        """Those of a person's writes that still count, in a dictionary of the caller's."""
        oldest = self._clock() - KEPT_SECONDS
        writes = self._writes.get(distinct_id, {})
        return {name: write for name, write in writes.items() if write.at > oldest}


def _bag(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _names(value: object) -> Sequence[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
