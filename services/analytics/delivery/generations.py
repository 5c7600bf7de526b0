"""Tells a stream from the one before it of the same name, by the messages alone.

JetStream that lost its disk, or was restored from a backup, gives new messages positions that older
ones had. A message does not say which stream it is of, only its position and when it was taken.
"""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCKS_DIFFER = timedelta(seconds=1)
"""How far the clocks of a stream's leaders may be apart: a message that is delivered again may have
a lower position and a slightly later time than one that another leader took."""


class Generations:
    """The streams of one name that messages were seen of, the oldest first."""

    def __init__(self) -> None:
        self._reached: list[tuple[int, datetime]] = []
        """Of each, the highest position and the latest time."""

    def of(self, position: int, taken_at: datetime) -> int:
        """Number the stream that took a message then; 0 is the oldest."""
        for number, (highest, latest) in enumerate(self._reached):
            is_newest = number == len(self._reached) - 1
            if taken_at <= latest + CLOCKS_DIFFER or (is_newest and position > highest):
                self._reached[number] = max(highest, position), max(latest, taken_at)
                return number
        self._reached.append((position, taken_at))
        return len(self._reached) - 1
