"""One file of the spool, which a process owns as long as it has it open."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.gateway.webhooks.spool.disk import read_all, sync_directory, write_at
from services.gateway.webhooks.spool.format import (
    HEADER_SIZE,
    RECORD_SIZE,
    STATE_OFFSET,
    Record,
    contents_of,
    file_header,
    published,
    record_header,
    synced_bytes,
    waiting_record,
)
from services.gateway.webhooks.spool.names import UNNAMED, name_of, salt_of

MAX_FILE_BYTES = 8 * 1024 * 1024
"""A file that would become larger is left alone and another begun, unless one webhook is."""
MAX_READ_BYTES = 80 * 1024 * 1024
"""More than a file can hold: NATS takes messages of 64 MiB at most. The rest is damage."""

CREATE_ATTEMPTS = 20
"""How often a file is made anew that another process took for what a crash left."""


class SpoolFile:
    """A file that this process owns, open for as long as it does."""

    def __init__(self, path: Path, descriptor: int, salt: int, end: int) -> None:
        """Use `create` or `adopt`."""
        self.path = path
        self.end = end
        self.count = 0
        """Webhooks that wait."""
        self.bytes = 0
        """How many bytes they are."""
        self.damaged = 0
        """Places that cannot be read."""
        self.unfinished = False
        """Whether an interrupted write was found at its end."""
        self.holds_refused = False
        """Whether a webhook was set aside."""
        self._salt = salt
        self._descriptor = descriptor
        self._cursor = HEADER_SIZE
        self._passed_over: set[int] = set()
        self._known_damage: set[int] = set()
        self._met_damage = 0
        """Places that `waiting` came across and that were whole before."""

    @classmethod
    def create(cls, directory: Path, sequence: int) -> SpoolFile:
        """Make a file. It is complete, and on disk, from the moment it has its name.

        Raises:
            OSError: it cannot be written.
        """
        attempts_left = CREATE_ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                return cls._create(directory, sequence)
            except (BlockingIOError, FileNotFoundError):
                # Until it is locked it has no owner, and `remove_unfinished` may have met it.
                if not attempts_left:
                    raise

    @classmethod
    def _create(cls, directory: Path, sequence: int) -> SpoolFile:
        salt = secrets.randbits(32)
        path = directory / name_of(sequence, salt)
        unnamed = path.with_suffix(UNNAMED)
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_at(descriptor, file_header(HEADER_SIZE, salt), 0)
            os.fsync(descriptor)
            unnamed.rename(path)
            sync_directory(directory)
        except OSError:
            os.close(descriptor)
            unnamed.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, salt, HEADER_SIZE)

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """Take a file that no process owns; None when one does, or when it is gone.

        Raises:
            OSError: it cannot be read.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have finished with it between the two lines above.
            gone = os.fstat(descriptor).st_ino != path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            gone = True
        except OSError:
            os.close(descriptor)
            raise
        if gone:
            os.close(descriptor)
            return None
        file = cls(path, descriptor, salt_of(path), 0)
        try:
            file._take_stock()
        except OSError:
            os.close(descriptor)
            raise
        return file

    def is_in_place(self) -> bool:
        """Whether its name still leads to it, as far as that can be looked up."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # Whether it can be written, writing it tells.
            return True

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more should go into this file."""
        return self.end + size <= MAX_FILE_BYTES

    def append(self, contents: Sequence[bytes]) -> None:
        """Write webhooks; they are synced when this returns.

        Raises:
            OSError: they are not written, and the file is as it was, as far as it could be mended.
        """
        rows = b"".join(waiting_record(content, self._salt) for content in contents)
        try:
            write_at(self._descriptor, rows, self.end)
            os.fdatasync(self._descriptor)
            write_at(self._descriptor, file_header(self.end + len(rows), self._salt), 0)
        except OSError:
            os.ftruncate(self._descriptor, self.end)
            raise
        self.end += len(rows)
        self.count += len(contents)
        self.bytes += len(rows)

    def waiting(self) -> Iterator[Record]:
        """Give the webhooks that wait, the oldest first, reading one at a time.

        Raises:
            OSError: the file cannot be read.
        """
        while (record := self._next(self._cursor)) is not None and not self._waits(record):
            self._cursor = record.offset + record.size
        if record is not None:
            self._cursor = record.offset
        offset = self._cursor
        while (record := self._next(offset)) is not None:
            offset = record.offset + record.size
            if self._waits(record):
                yield record

    def mark_published(self, offset: int, size: int) -> OSError | None:
        """Take a webhook as published.

        A mark that is lost, with power or on a full disk, costs nothing but a repetition, which
        JetStream and ingest recognise.

        Returns:
            Why the file could not be told; this process knows nonetheless.
        """
        self._forget(offset, size)
        try:
            state = published(os.pread(self._descriptor, RECORD_SIZE, offset))
            if state is None:
                return None
            write_at(self._descriptor, state, offset + STATE_OFFSET)
        except OSError as error:
            return error
        self._passed_over.discard(offset)
        return None

    def set_aside(self, offset: int, size: int) -> None:
        """Give a webhook no longer, until the next start."""
        self.holds_refused = True
        self._forget(offset, size)

    def recount(self, seen: int) -> int:
        """Go by what `waiting` gave to its end: `seen` webhooks.

        Returns:
            Places that can no longer be read, each of them once.
        """
        places = max(self.count - seen, self._met_damage)
        self._met_damage = 0
        self.damaged += places
        if seen != self.count:
            self.bytes = self.bytes * seen // self.count if self.count else 0
            self.count = seen
        return places

    def close(self) -> None:
        """Give the file up; another process may adopt it."""
        os.close(self._descriptor)

    def _forget(self, offset: int, size: int) -> None:
        self._passed_over.add(offset)
        self.count -= 1
        # After `recount` it is an estimate.
        self.bytes = max(self.bytes - size, 0) if self.count else 0

    def _take_stock(self) -> None:
        data = read_all(self._descriptor, MAX_READ_BYTES)
        self.end = os.fstat(self._descriptor).st_size
        synced = synced_bytes(data, self._salt)
        if synced is None or synced > self.end:
            self.damaged += 1
        if self.end > len(data):
            self.damaged += 1
        for found in contents_of(data, self._salt):
            if isinstance(found, Record):
                if found.waits:
                    self.count += 1
                    self.bytes += found.size
                continue
            self._known_damage.add(found.offset)
            if found.unfinished:
                self.unfinished = True
            else:
                self.damaged += 1

    def _waits(self, record: Record) -> bool:
        return record.waits and record.offset not in self._passed_over

    def _next(self, offset: int) -> Record | None:
        if offset >= self.end:
            return None
        header = record_header(os.pread(self._descriptor, RECORD_SIZE, offset), 0, self._salt)
        if header is not None:
            content = os.pread(self._descriptor, header.length, offset + RECORD_SIZE)
            record = header.record(offset, content, self._salt)
            if record is not None:
                return record
        # A count of webhooks does not tell: one that was published may wait again by damage, too.
        if offset not in self._known_damage:
            self._known_damage.add(offset)
            self._met_damage += 1
        for later in contents_of(read_all(self._descriptor, MAX_READ_BYTES), self._salt, offset):
            if isinstance(later, Record):
                # Behind the end lies what could not be taken back of a write that failed.
                return later if later.offset < self.end else None
        return None
