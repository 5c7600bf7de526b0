"""The time of an event by the server's clock (nodejs/src/worker/ingestion/timestamps.ts)."""

from __future__ import annotations

from datetime import UTC, datetime

from sandbox.clock import iso

MAX_SECONDS_AHEAD = 23 * 3600
"""An event that is further in the future gets the time of its request."""


def event_time(happened: float, now: float, sent_at: float | None) -> str:
    """Return an event's time by the server's clock.

    Args:
        happened: when it happened by the client's clock.
        now: when the request arrived.
        sent_at: the client's time when it sent the request. The client's clock may be wrong, so
            only the time between the event and `sent_at` is used. None: the clock is right.
    """
    if sent_at is not None:
        happened = now - (sent_at - happened)
    try:
        return iso(happened if happened - now <= MAX_SECONDS_AHEAD else now)
    except (ValueError, OverflowError):
        # Before year 1.
        return iso(now)


def moment(text: str | None) -> float | None:
    """Parse an ISO 8601 time, in UTC if it has no offset. None if it is none."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def rfc3339(text: str) -> float | None:
    """Parse an RFC 3339 time, which has an offset. None if it is none."""
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.timestamp() if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None
