"""One file of the spool. The process that locked it owns it, until it closes the file or ends."""

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
    pending_record,
    published_state,
    record_header,
    synced_bytes,
)
from services.gateway.webhooks.spool.names import PARTIAL_SUFFIX, name_of, salt_of

MAX_FILE_BYTES = 8 * 1024 * 1024
"""Size at which the next file is started. A single webhook may still be larger."""
MAX_READ_BYTES = 80 * 1024 * 1024
"""No valid file is larger: NATS accepts messages of at most 64 MiB. Bytes beyond are damage."""

CREATE_ATTEMPTS = 20
"""Attempts to create a file that another process removes as one that a crash left."""


class SpoolFile:
    """A spool file that this process has locked."""

    def __init__(self, path: Path, descriptor: int, salt: int, end: int) -> None:
        """Use `create` or `adopt` instead."""
        self.path = path
        self.end = end
        """Size of the file in bytes; the next record is written there."""
        self.count = 0
        """Pending webhooks: those not published yet."""
        self.bytes = 0
        """Size of the pending webhooks in bytes. An estimate after `recount`."""
        self.damaged = 0
        """Places that cannot be read."""
        self.unfinished = False
        """Whether the file ends with a write that a crash interrupted."""
        self.has_refused = False
        """Whether it contains a webhook that is excluded until the next start."""
        self._salt = salt
        self._descriptor = descriptor
        self._cursor = HEADER_SIZE
        """Offset before which no webhook is pending."""
        self._excluded: set[int] = set()
        """Offsets of records that are not pending although the file has no mark of it."""
        self._damaged_offsets: set[int] = set()
        self._new_damage = 0
        """Places that `pending` found damaged since the last `recount`."""

    @classmethod
    def create(cls, directory: Path, sequence: int) -> SpoolFile:
        """Create and lock an empty file.

        Raises:
            OSError: it cannot be written.
        """
        attempts_left = CREATE_ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                return cls._create(directory, sequence)
            except (BlockingIOError, FileNotFoundError):
                # Before the lock, `remove_partial_files` of another process may lock or remove it.
                if not attempts_left:
                    raise

    @classmethod
    def _create(cls, directory: Path, sequence: int) -> SpoolFile:
        salt = secrets.randbits(32)
        path = directory / name_of(sequence, salt)
        partial = path.with_suffix(PARTIAL_SUFFIX)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Invariant: a file with the suffix `.spool` has a complete header, and both the header
            # and the name are on disk before a webhook is written.
            # Why: the header is synced under the partial name, then the rename is synced.
            # Without it: a crash could leave a file without a header, which is reported as damage;
            # a power failure could lose the name, and with it webhooks that were answered 200.
            write_at(descriptor, file_header(HEADER_SIZE, salt), 0)
            os.fsync(descriptor)
            partial.rename(path)
            sync_directory(directory)
        except OSError:
            os.close(descriptor)
            partial.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, salt, HEADER_SIZE)

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """Lock and read a file that no process owns. Return None if it is owned or was removed.

        Raises:
            OSError: it cannot be read.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Invariant: the locked file is the one that has the name.
            # Why: its owner may have published and removed it between `open` and `flock`.
            # Without it: a removed file would be drained, and published a second time.
            unavailable = os.fstat(descriptor).st_ino != path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            unavailable = True
        except OSError:
            os.close(descriptor)
            raise
        if unavailable:
            os.close(descriptor)
            return None
        file = cls(path, descriptor, salt_of(path), 0)
        try:
            file._scan()
        except OSError:
            os.close(descriptor)
            raise
        return file

    def is_in_place(self) -> bool:
        """Whether its path still leads to this file; True if the path cannot be checked."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # The write that follows shows whether the file is usable.
            return True

    def has_capacity(self, size: int) -> bool:
        """Whether `size` more bytes fit into this file."""
        return self.end + size <= MAX_FILE_BYTES

    def append(self, contents: Sequence[bytes]) -> None:
        """Write encoded webhooks; they are synced when this returns.

        Raises:
            OSError: they are not written. The file is truncated to its previous size if possible.
        """
        rows = b"".join(pending_record(content, self._salt) for content in contents)
        try:
            # Invariant: when this returns, the webhooks are on disk, and `synced` is not beyond
            # synced bytes.
            # Why: the caller answers 200 now, and the header is written only after the sync.
            # Without it: a power failure would lose an accepted webhook, or an interrupted write
            # would be reported as damage.
            write_at(self._descriptor, rows, self.end)
            os.fdatasync(self._descriptor)
            write_at(self._descriptor, file_header(self.end + len(rows), self._salt), 0)
        except OSError:
            os.ftruncate(self._descriptor, self.end)
            raise
        self.end += len(rows)
        self.count += len(contents)
        self.bytes += len(rows)

    def pending(self) -> Iterator[Record]:
        """Yield the pending webhooks, the oldest first, with one in memory at a time.

        Raises:
            OSError: the file cannot be read.
        """
        while (record := self._next(self._cursor)) is not None and not self._is_pending(record):
            self._cursor = record.offset + record.size
        if record is not None:
            self._cursor = record.offset
        offset = self._cursor
        while (record := self._next(offset)) is not None:
            offset = record.offset + record.size
            if self._is_pending(record):
                yield record

    def mark_published(self, offset: int, size: int) -> OSError | None:
        """Mark a webhook as published, in memory and in the file.

        The mark is not synced. If a power failure or a full disk loses it, the webhook is published
        again after a restart, and JetStream and ingest drop the duplicate.

        Returns:
            The error if the mark could not be written. It is kept in memory in any case.
        """
        self._exclude(offset, size)
        try:
            state = published_state(os.pread(self._descriptor, RECORD_SIZE, offset))
            if state is None:
                return None
            write_at(self._descriptor, state, offset + STATE_OFFSET)
        except OSError as error:
            return error
        self._excluded.discard(offset)
        return None

    def set_aside(self, offset: int, size: int) -> None:
        """Exclude a webhook from `pending` until the next start; the file keeps it as pending."""
        self.has_refused = True
        self._exclude(offset, size)

    def recount(self, seen: int) -> int:
        """Correct `count` after `pending` was exhausted and yielded `seen` webhooks.

        Returns:
            How many places have become unreadable. Each place is counted once.
        """
        places = max(self.count - seen, self._new_damage)
        self._new_damage = 0
        self.damaged += places
        if seen != self.count:
            self.bytes = self.bytes * seen // self.count if self.count else 0
            self.count = seen
        return places

    def close(self) -> None:
        """Close the file and release its lock; another process may then adopt it."""
        os.close(self._descriptor)

    def _exclude(self, offset: int, size: int) -> None:
        self._excluded.add(offset)
        self.count -= 1
        self.bytes = max(self.bytes - size, 0) if self.count else 0

    def _scan(self) -> None:
        """Count the webhooks and the damage of an adopted file."""
        data = read_all(self._descriptor, MAX_READ_BYTES)
        self.end = os.fstat(self._descriptor).st_size
        synced = synced_bytes(data, self._salt)
        if synced is None or synced > self.end:
            self.damaged += 1
        if self.end > len(data):
            self.damaged += 1
        for piece in contents_of(data, self._salt):
            if isinstance(piece, Record):
                if piece.pending:
                    self.count += 1
                    self.bytes += piece.size
                continue
            self._damaged_offsets.add(piece.offset)
            if piece.unfinished:
                self.unfinished = True
            else:
                self.damaged += 1

    def _is_pending(self, record: Record) -> bool:
        return record.pending and record.offset not in self._excluded

    def _next(self, offset: int) -> Record | None:
        """Return the first record at or after `offset`; damaged bytes are skipped and counted."""
        if offset >= self.end:
            return None
        header = record_header(os.pread(self._descriptor, RECORD_SIZE, offset), 0, self._salt)
        if header is not None:
            content = os.pread(self._descriptor, header.length, offset + RECORD_SIZE)
            record = header.record(offset, content, self._salt)
            if record is not None:
                return record
        # Invariant: each damaged place is counted, even if the number of webhooks is as expected.
        # Why: other damage may have made a published webhook pending again, which cancels out.
        # Without it: the file would be removed as fully published, and the lost webhook with it.
        if offset not in self._damaged_offsets:
            self._damaged_offsets.add(offset)
            self._new_damage += 1
        for later in contents_of(read_all(self._descriptor, MAX_READ_BYTES), self._salt, offset):
            if isinstance(later, Record):
                # After `end` are only bytes of a failed write that could not be truncated.
                return later if later.offset < self.end else None
        return None
