"""When nothing at all may be sent: after a change of leader, and while PostHog asks for a pause."""

from __future__ import annotations


class SendGate:
    """Closed until the last of its reasons is gone. All times are seconds on one clock."""

    def __init__(self) -> None:
        self._paused_until = 0.0
        self._held_until = 0.0
        self._awaited = 0
        self._redelivered: set[int] = set()

    def hold_for_redeliveries(self, count: int, until: float) -> None:
        """Close until `count` messages were redelivered, or until a moment.

        The previous leader may have left unacknowledged messages. They come again only after the
        ack wait, later than newer events of the same people, which must not overtake them. The ones
        it acknowledged at the last moment never come: hence `until`.
        """
        self._awaited = count
        self._held_until = until

    def redelivered(self, position: int) -> None:
        """Note that a message was delivered again."""
        if self._awaited:
            self._redelivered.add(position)

    def pause(self, until: float) -> None:
        """Close until a moment, or until a later one that was named before."""
        self._paused_until = max(self._paused_until, until)

    def closed_for(self, now: float) -> float | None:
        """Seconds until it opens at the latest; None when it is open."""
        until = self._paused_until
        if len(self._redelivered) < self._awaited:
            until = max(until, self._held_until)
        return until - now if until > now else None
