"""The spool of Hogsend 0.1, one SQLite file. Its webhooks are moved to spool files at start."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = "webhooks.sqlite3"
COMPANIONS = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps next to a database."""

_FORWARD = "SELECT position, delivery FROM spool ORDER BY position"
_POSITIONS_BACKWARD = "SELECT position FROM spool WHERE position > ? ORDER BY position DESC"
_ROW = "SELECT delivery FROM spool WHERE position = ?"


@dataclass
class SQLiteSpool:
    """A SQLite spool that Hogsend 0.1 left in a directory."""

    path: Path
    damaged: bool = False
    """Whether part of it could not be read. Valid after `contents` is exhausted."""
    busy: bool = False
    """Whether a gateway of version 0.1 still uses it. Valid after `contents` is exhausted."""

    @classmethod
    def find(cls, directory: Path) -> SQLiteSpool | None:
        """Return the SQLite spool in a directory, or None."""
        path = directory / NAME
        try:
            return cls(path) if path.exists() else None
        except OSError:
            return None

    @property
    def files(self) -> list[Path]:
        """The database file and the files that SQLite keeps next to it, as far as they exist."""
        companions = [self.path.with_name(NAME + suffix) for suffix in COMPANIONS]
        return [path for path in (self.path, *companions) if path.exists()]

    def contents(self) -> Iterator[bytes]:
        """Yield every readable webhook, the oldest first, with one in memory at a time."""
        try:
            connection = sqlite3.connect(self.path, timeout=0)
        except sqlite3.Error:
            self.damaged = True
            return
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self.damaged = not _is_intact(connection)
            yield from self._rows(connection)
        except sqlite3.Error as error:
            self.busy = _is_locked(error)
            self.damaged = not self.busy
        finally:
            connection.close()

    def _rows(self, connection: sqlite3.Connection) -> Iterator[bytes]:
        last_position = -1
        try:
            for position, content in connection.execute(_FORWARD):
                last_position = position
                yield from self._bytes(content)
        except sqlite3.DatabaseError as error:
            if _is_locked(error):
                raise
            self.damaged = True
            # A forward scan stops at a damaged page. A backward scan reaches the rows after it.
            for position in reversed(_positions_after(connection, last_position)):
                with suppress(sqlite3.DatabaseError):
                    for (content,) in connection.execute(_ROW, (position,)):
                        yield from self._bytes(content)

    def _bytes(self, content: object) -> Iterator[bytes]:
        if isinstance(content, bytes):
            yield content
        else:
            self.damaged = True


def _is_intact(connection: sqlite3.Connection) -> bool:
    try:
        return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError as error:
        # SQLite raises for some damage instead of reporting it. Other rows may still be readable.
        if _is_locked(error):
            raise
        return False


def _positions_after(connection: sqlite3.Connection, position: int) -> list[int]:
    """Return the positions of the readable rows after `position`, the latest first."""
    positions = []
    with suppress(sqlite3.DatabaseError):
        for (later,) in connection.execute(_POSITIONS_BACKWARD, (position,)):
            positions.append(later)
    return positions


def _is_locked(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
