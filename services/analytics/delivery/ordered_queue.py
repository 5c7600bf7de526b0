"""Which events may be sent now: each person's in order, nobody waits for somebody else's.

A lane is one person's events. While the first of a lane is on its way or waits for its next
attempt, the rest of the lane waits behind it; other lanes go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Origin = TypeVar("Origin")

MAX_GROUP_BYTES = 4 * 1024 * 1024
"""Well below what PostHog takes at once, 20 MiB (`rust/capture`)."""


@dataclass(eq=False)
class Entry(Generic[Origin]):
    """An event that waits to be sent."""

    position: int
    """Order among all; lower goes first within a lane."""
    lane: str
    body: bytes
    origin: Origin
    """Where it came from, for whoever settles it."""
    attempts: int = 0
    first_tried_at: float | None = None
    due_at: float = 0.0
    """Not before this moment, on the clock of whoever asks."""
    company: float = math.inf
    """Most events it may be sent with; shrinks to find which one of a group is at fault."""
    in_flight: bool = field(default=False, repr=False)


class Lanes(Generic[Origin]):
    """All waiting events of one destination."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[int, Entry[Origin]] = {}
        self._is_sorted = True

    def __len__(self) -> int:
        """How many wait or are on their way."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[Origin]]:
        """Every entry, those on their way included."""
        return iter(self._entries.values())

    def add(self, entry: Entry[Origin]) -> bool:
        """Queue an entry; False when its position is known, which only renews its origin."""
        known = self._entries.get(entry.position)
        if known is not None:
            known.origin = entry.origin
            return False
        last = next(reversed(self._entries), -1)
        self._is_sorted = self._is_sorted and entry.position > last
        self._entries[entry.position] = entry
        return True

    def take(self, now: float, most: int) -> list[Entry[Origin]]:
        """Entries to send together now, marked as on their way; empty when none may be sent."""
        self._sort()
        group: list[Entry[Origin]] = []
        blocked: set[str] = set()
        limit, room = float(most), MAX_GROUP_BYTES
        for entry in self._entries.values():
            if entry.in_flight or entry.due_at > now or entry.lane in blocked:
                blocked.add(entry.lane)
                continue
            limit_with = min(limit, entry.company)
            if len(group) + 1 > limit_with or (group and len(entry.body) > room):
                blocked.add(entry.lane)
                if len(group) >= limit:
                    break
                continue
            limit = limit_with
            room -= len(entry.body)
            group.append(entry)
        for entry in group:
            entry.in_flight = True
        return group

    def settle(self, entries: Iterable[Entry[Origin]]) -> None:
        """Forget entries that are done."""
        for entry in entries:
            self._entries.pop(entry.position, None)

    def put_back(self, entries: Iterable[Entry[Origin]]) -> None:
        """Let entries wait again."""
        for entry in entries:
            entry.in_flight = False

    def next_due(self, now: float) -> float | None:
        """Seconds until something may be sent that may not be sent now; None when unknown."""
        waiting = [
            entry.due_at - now
            for entry in self._entries.values()
            if not entry.in_flight and entry.due_at > now
        ]
        return min(waiting, default=None)

    def _sort(self) -> None:
        # Only redelivered messages come out of order.
        if not self._is_sorted:
            self._entries = dict(sorted(self._entries.items()))
            self._is_sorted = True
