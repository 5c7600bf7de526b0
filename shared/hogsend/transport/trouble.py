"""Says that a consumer cannot be read, and why: once for each reason, however often it is tried."""

from __future__ import annotations

from hogsend.transport.connection import Connection

MOST_REASONS = 8
"""A server that says something else each time is not repeated for ever."""


class Trouble:
    """Failures of one reader in a row, told to its connection's observer."""

    def __init__(self, connection: Connection, stream: str, consumer: str | None) -> None:
        """Begin without any; `consumer` is None for one whose name says nothing."""
        self._connection = connection
        self._what = f"{stream} cannot be read" + (f" as {consumer!r}" if consumer else "")
        self._fails = False
        self._told: set[str] = set()

    def tell(self, error: Exception) -> None:
        """Note an attempt that failed.

        What fails once is no trouble: a request is lost with its connection, and a consumer that
        was deleted is made again.
        """
        reason = f"{type(error).__name__}: {error}"
        if self._fails and reason not in self._told and len(self._told) < MOST_REASONS:
            self._told.add(reason)
            self._connection.observe("error", f"{self._what}: {reason}")
        self._fails = True

    def over(self) -> None:
        """Note an attempt that did not fail."""
        self._fails = False
        self._told.clear()
