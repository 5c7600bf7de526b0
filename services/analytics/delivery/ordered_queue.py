"""Which events may be sent now, so that each key's events stay in order.

The key is the person an event is about. While the first event of a key is in flight or waits for
its next attempt, later events of that key wait behind it. Other keys go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Generic, TypeAlias, TypeVar

from services.analytics.delivery.generations import Generations

Origin = TypeVar("Origin")
Place: TypeAlias = tuple[int, datetime | None]
"""A position in a stream, and when the stream took what is there.

A stream that is made anew has the same positions again, with other messages.
"""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Well below the 20 MiB that PostHog accepts in one request (`rust/capture`)."""


@dataclass(eq=False)
class Entry(Generic[Origin]):
    """An event that waits to be sent."""

    position: int
    """Its place in the stream; lower positions go first within a key and a generation."""
    key: str
    body: bytes
    origin: Origin
    """What the event was read from, to be settled once the event is done."""
    queued_at: datetime | None = None
    """When the stream took it."""
    revision: object = None
    """Of the source, when `body` was made."""
    attempts: int = 0
    refusals: int = 0
    """How many of them PostHog refused for good."""
    looked_at: float = 0.0
    """Seconds on the caller's clock: when it was last known that its stream has it."""
    first_tried_at: float = math.inf
    """Seconds on the caller's clock; infinite before the first attempt."""
    due_at: float = 0.0
    """Seconds on the caller's clock; the event is not sent earlier."""
    max_batch: float = math.inf
    """Largest batch it may be part of; shrinks to find the event that makes a batch fail."""
    in_flight: bool = field(default=False, repr=False)
    generation: int = 0
    """Which of the streams that had one name after each other it is of; the queue finds out."""

    @property
    def place(self) -> Place:
        """What tells it from every other event."""
        return self.position, self.queued_at

    @property
    def order(self) -> tuple[int, int]:
        """What is lower is sent first within a key."""
        return self.generation, self.position


class OrderedQueue(Generic[Origin]):
    """The waiting events of one source."""

    def __init__(self) -> None:
        self._entries: dict[Place, Entry[Origin]] = {}
        self._is_sorted = True
        self._generations = Generations()
        self.bytes = 0
        """How many bytes the bodies of all entries are."""

    def __len__(self) -> int:
        """Count the entries, those in flight included."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[Origin]]:
        """Every entry, those in flight included."""
        return iter(self._entries.values())

    def add(self, entry: Entry[Origin]) -> bool:
        """Queue an entry; False when it is queued already, which renews its origin."""
        known = self._entries.get(entry.place)
        if known is not None:
            known.origin = entry.origin
            return False
        if entry.queued_at is not None:
            entry.generation = self._generations.of(entry.position, entry.queued_at)
        last = next(reversed(self._entries.values()), None)
        self._is_sorted = self._is_sorted and (last is None or entry.order > last.order)
        self._entries[entry.place] = entry
        self.bytes += len(entry.body)
        return True

    def rewrite(self, entry: Entry[Origin], body: bytes, revision: object) -> None:
        """Give a queued entry the body that its source makes of it at another revision."""
        self.bytes += len(body) - len(entry.body)
        entry.body, entry.revision = body, revision

    def take(self, now: float, max_batch: int) -> list[Entry[Origin]]:
        """Entries to send together now, marked as in flight; empty when none may be sent.

        A key is blocked as soon as one of its entries cannot be taken: a later one must not
        overtake it.
        """
        self._sort()
        batch: list[Entry[Origin]] = []
        blocked: set[str] = set()
        limit, room = float(max_batch), MAX_BATCH_BYTES
        for entry in self._entries.values():
            if entry.in_flight or entry.due_at > now or entry.key in blocked:
                blocked.add(entry.key)
                continue
            limit_with_entry = min(limit, entry.max_batch)
            if len(batch) + 1 > limit_with_entry or (batch and len(entry.body) > room):
                blocked.add(entry.key)
                if len(batch) >= limit:
                    break
                continue
            limit = limit_with_entry
            room -= len(entry.body)
            batch.append(entry)
        for entry in batch:
            entry.in_flight = True
        return batch

    def remove(self, entries: Iterable[Entry[Origin]]) -> None:
        """Forget entries that are done."""
        for entry in entries:
            if self._entries.pop(entry.place, None) is not None:
                self.bytes -= len(entry.body)

    def release(self, entries: Iterable[Entry[Origin]]) -> None:
        """Let entries wait again; removed ones are unaffected."""
        for entry in entries:
            entry.in_flight = False

    def next_due(self, now: float) -> float | None:
        """Seconds until the first delayed entry may be sent; None when no entry is delayed."""
        delays = [
            entry.due_at - now
            for entry in self._entries.values()
            if not entry.in_flight and entry.due_at > now
        ]
        return min(delays, default=None)

    def _sort(self) -> None:
        # Only redelivered messages arrive out of order.
        if not self._is_sorted:
            ordered = sorted(self._entries.values(), key=attrgetter("order", "queued_at"))
            self._entries = {entry.place: entry for entry in ordered}
            self._is_sorted = True
