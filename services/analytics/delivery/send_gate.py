"""Blocks sending after a change of leader, and while PostHog asks for a pause (`Retry-After`)."""

from __future__ import annotations


class SendGate:
    """Closed while any reason to wait remains. All times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self._paused_until = 0.0
        self._held_until = 0.0
        self._awaited = 0
        self._redelivered: set[int] = set()

    def hold_for_redeliveries(self, count: int, until: float) -> None:
        """Close until `count` messages were redelivered, but at most until `until`.

        The previous leader may have left messages unacknowledged. JetStream redelivers them only
        after the ack wait, while newer events of the same persons arrive at once and must not
        overtake them. Messages that the previous leader still acknowledged are never redelivered;
        `until` ends the wait for those.
        """
        self._awaited = count
        self._held_until = until

    def redelivered(self, position: int) -> None:
        """Note that the message at a position was redelivered."""
        if self._awaited:
            self._redelivered.add(position)

    def pause(self, until: float) -> None:
        """Close until `until`; an earlier pause that ends later stays in force."""
        self._paused_until = max(self._paused_until, until)

    def closed_for(self, now: float) -> float | None:
        """Return the seconds until the gate opens at the latest; None when it is open."""
        until = self._paused_until
        if len(self._redelivered) < self._awaited:
            until = max(until, self._held_until)
        return until - now if until > now else None
