"""Distinguishes successive streams of one name by the positions and times of their messages.

After JetStream lost its disk or was restored from a backup, new messages get positions (sequences)
that earlier messages had. A message carries only its position and the time when it was stored, not
which of the streams it is from.
"""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCK_SKEW = timedelta(seconds=1)
"""Largest difference expected between the clocks of a stream's leaders. It may give a redelivered
message a slightly later time than a message with a higher position that another leader stored."""


class Generations:
    """Numbers the successive streams of one name, by the messages that were received."""

    def __init__(self) -> None:
        self._reached: list[tuple[int, datetime]] = []
        """Highest position and latest time of each stream, oldest stream first."""

    def number_of(self, position: int, queued_at: datetime) -> int:
        """Return the number of the stream that stored a message at `queued_at`; 0 is the oldest."""
        for number, (highest, latest) in enumerate(self._reached):
            is_newest = number == len(self._reached) - 1
            if queued_at <= latest + CLOCK_SKEW or (is_newest and position > highest):
                self._reached[number] = max(highest, position), max(latest, queued_at)
                return number
        self._reached.append((position, queued_at))
        return len(self._reached) - 1
