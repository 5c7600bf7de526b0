"""A queue that keeps the events of each key in order.

The key of an event is its person. While the first event of a key is in flight or waits for its next
attempt, later events of that key wait for it. Events of other keys are still sent.
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
"""The position (sequence) of a message in its stream, and when the stream stored it.

The time is needed because a stream that is created again reuses the positions for other messages.
"""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Well below the 20 MiB that PostHog accepts in one request (`rust/capture`)."""


@dataclass(eq=False)
class Entry(Generic[Origin]):
    """An event in the queue."""

    position: int
    """Its sequence in the stream; lower positions are sent first within a key and a generation."""
    key: str
    body: bytes
    origin: Origin
    """The message that the event was read from; it is settled when the event is done."""
    queued_at: datetime | None = None
    """When the stream stored the message."""
    revision: object = None
    """Revision of the source that `body` was mapped with."""
    attempts: int = 0
    refusals: int = 0
    """How many attempts PostHog refused with an error that is not temporary."""
    checked_at: float = 0.0
    """Seconds on the caller's clock: when the message was last known to be in its stream."""
    first_tried_at: float = math.inf
    """Seconds on the caller's clock; infinite before the first attempt."""
    due_at: float = 0.0
    """Seconds on the caller's clock; the event is not sent earlier."""
    max_batch: float = math.inf
    """Largest batch it may be part of; shrinks to isolate the event that makes a batch fail."""
    in_flight: bool = field(default=False, repr=False)
    generation: int = 0
    """Number of the stream that the message is from, see `Generations`; set by the queue."""

    @property
    def place(self) -> Place:
        """Identifies the event in the queue."""
        return self.position, self.queued_at

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: within a key, entries with lower values are sent first."""
        return self.generation, self.position


class OrderedQueue(Generic[Origin]):
    """The queued events of one source."""

    def __init__(self) -> None:
        self._entries: dict[Place, Entry[Origin]] = {}
        self._is_sorted = True
        self._generations = Generations()
        self.bytes = 0
        """Total size of the bodies of all entries."""

    def __len__(self) -> int:
        """Count the entries, including those in flight."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[Origin]]:
        """Iterate over the entries, including those in flight."""
        return iter(self._entries.values())

    def add(self, entry: Entry[Origin]) -> bool:
        """Queue an entry. If it is queued already, only replace its origin, and return False.

        The origin of a redelivered message is the one to acknowledge.
        """
        queued = self._entries.get(entry.place)
        if queued is not None:
            queued.origin = entry.origin
            return False
        if entry.queued_at is not None:
            entry.generation = self._generations.number_of(entry.position, entry.queued_at)
        last = next(reversed(self._entries.values()), None)
        self._is_sorted = self._is_sorted and (last is None or entry.order > last.order)
        self._entries[entry.place] = entry
        self.bytes += len(entry.body)
        return True

    def rewrite(self, entry: Entry[Origin], body: bytes, revision: object) -> None:
        """Replace the body of a queued entry with the one of another revision of its source."""
        self.bytes += len(body) - len(entry.body)
        entry.body, entry.revision = body, revision

    def take(self, now: float, max_batch: int) -> list[Entry[Origin]]:
        """Return entries to send together now, and mark them as in flight.

        When an entry cannot be taken, later entries of its key are not taken either: they must not
        overtake it.
        """
        self._sort()
        batch: list[Entry[Origin]] = []
        blocked: set[str] = set()
        limit, remaining_bytes = float(max_batch), MAX_BATCH_BYTES
        for entry in self._entries.values():
            if entry.in_flight or entry.due_at > now or entry.key in blocked:
                blocked.add(entry.key)
                continue
            limit_with_entry = min(limit, entry.max_batch)
            is_too_large = bool(batch) and len(entry.body) > remaining_bytes
            if len(batch) + 1 > limit_with_entry or is_too_large:
                blocked.add(entry.key)
                if len(batch) >= limit:
                    break
                continue
            limit = limit_with_entry
            remaining_bytes -= len(entry.body)
            batch.append(entry)
        for entry in batch:
            entry.in_flight = True
        return batch

    def remove(self, entries: Iterable[Entry[Origin]]) -> None:
        """Remove entries that are settled."""
        for entry in entries:
            if self._entries.pop(entry.place, None) is not None:
                self.bytes -= len(entry.body)

    def release(self, entries: Iterable[Entry[Origin]]) -> None:
        """Mark entries as no longer in flight; removed entries are unaffected."""
        for entry in entries:
            entry.in_flight = False

    def next_due(self, now: float) -> float | None:
        """Return the seconds until the first delayed entry is due; None when none is delayed."""
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
