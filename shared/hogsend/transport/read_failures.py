"""Reports why a consumer cannot be read: each reason once, however often the read is retried."""

from __future__ import annotations

from hogsend.transport.connection import Connection

MAX_REASONS = 8
"""How many different reasons are reported in a row. A server whose error text differs each time
would otherwise be reported at every attempt."""


class ReadFailures:
    """Consecutive failures of one reader, reported to the observer of its connection."""

    def __init__(self, connection: Connection, stream: str, consumer: str | None) -> None:
        """Start without a failure; `consumer` is None where its name is random."""
        self._connection = connection
        self._summary = f"{stream} cannot be read" + (f" as {consumer!r}" if consumer else "")
        self._last_attempt_failed = False
        self._reported: set[str] = set()

    def record(self, error: Exception) -> None:
        """Record a failed attempt, and report its reason from the second failure in a row on.

        A single failure is normal: a request is lost with its connection, and a consumer that was
        deleted is created again.
        """
        reason = f"{type(error).__name__}: {error}"
        is_new = reason not in self._reported and len(self._reported) < MAX_REASONS
        if self._last_attempt_failed and is_new:
            self._reported.add(reason)
            self._connection.observe("error", f"{self._summary}: {reason}")
        self._last_attempt_failed = True

    def clear(self) -> None:
        """Record an attempt that succeeded."""
        self._last_attempt_failed = False
        self._reported.clear()
