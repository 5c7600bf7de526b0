"""The spool of Hogsend 0.1: one SQLite file, which is moved into today's at start."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "webhooks.sqlite3"
COMPANIONS = ("-wal", "-shm", "-journal")

_FORWARD = "SELECT position, delivery FROM spool WHERE position > ? ORDER BY position"
_BACKWARD = "SELECT position, delivery FROM spool WHERE position > ? ORDER BY position DESC"


@dataclass
class SQLiteSpool:
    """What an earlier version left in a directory."""

    path: Path
    damaged: bool = False
    """Whether it could not be read in full; known once `contents` has been gone through."""
    busy: bool = False
    """Whether a gateway of that version still uses it."""

    @classmethod
    def find(cls, directory: Path) -> SQLiteSpool | None:
        """Look for one."""
        path = directory / NAME
        try:
            return cls(path) if path.exists() else None
        except OSError:
            return None

    @property
    def files(self) -> list[Path]:
        """The file, and those that SQLite keeps beside it."""
        beside = [self.path.with_name(NAME + suffix) for suffix in COMPANIONS]
        return [path for path in (self.path, *beside) if path.exists()]

    def contents(self) -> Iterator[bytes]:
        """Give every webhook that can be read, one at a time, the oldest first."""
        try:
            connection = sqlite3.connect(self.path, timeout=0)
        except sqlite3.Error:
            self.damaged = True
            return
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                self.damaged = True
            yield from self._rows(connection)
        except sqlite3.OperationalError as error:
            self.busy = "locked" in str(error)
            self.damaged = not self.busy
        except sqlite3.Error:
            self.damaged = True
        finally:
            connection.close()

    def _rows(self, connection: sqlite3.Connection) -> Iterator[bytes]:
        last = -1
        try:
            for position, content in connection.execute(_FORWARD, (last,)):
                last = position
                yield from self._bytes(content)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            self.damaged = True
            # What lies behind the damage is reached from the other end.
            for _, content in connection.execute(_BACKWARD, (last,)):
                yield from self._bytes(content)

    def _bytes(self, content: object) -> Iterator[bytes]:
        if isinstance(content, bytes):
            yield content
        else:
            self.damaged = True
