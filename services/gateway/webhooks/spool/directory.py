"""The spool's directory: writes webhooks to files, reads them in order, and removes empty files.

Several processes may share a directory. The process that locks a file owns it; the files of a
process that has ended are adopted by another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog
from prometheus_client import Gauge

from hogsend.contract.errors import CannotStart
from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.adoption import Adoption
from services.gateway.webhooks.spool.file import SpoolFile
from services.gateway.webhooks.spool.format import Record, record_size
from services.gateway.webhooks.spool.names import sequence_of
from services.gateway.webhooks.spool.set_aside import SetAside, report_damage

log = structlog.get_logger(__name__)

SET_ASIDE = Gauge(
    "hogsend_spool_set_aside", "Spooled webhooks that JetStream refuses, or that cannot be decoded"
)
FILES_SET_ASIDE = Gauge(
    "hogsend_spool_files_set_aside",
    "Damaged files in SPOOL_DIR/set-aside, and files of the spool that may not be opened",
)

_decode = msgspec.msgpack.Decoder(QueuedWebhook).decode


class Spooled(msgspec.Struct, frozen=True):
    """A webhook and its place in the spool."""

    file: SpoolFile
    offset: int
    size: int
    webhook: QueuedWebhook


class SpoolDirectory:
    """The files that this process owns.

    Methods block on the disk and must all be called from one thread. Properties and attributes may
    be read from any thread.
    """

    def __init__(self, path: Path) -> None:
        """Create the directory if it is missing. `adopt` then takes over the files in it.

        Raises:
            CannotStart: it is not writable.
        """
        self.refused = 0
        """Webhooks that are excluded until the next start."""
        self.files_aside = 0
        """Files that are damaged or may not be opened, of all processes."""
        self._path = path
        self._aside = SetAside(path)
        self._adoption = Adoption(path, self._aside)
        self._files: tuple[SpoolFile, ...] = ()
        """Oldest first. Replaced as a whole, never changed: other threads iterate over it."""
        self._current: SpoolFile | None = None
        self._sequence = 0
        _prepare(path)

    @property
    def count(self) -> int:
        """Webhooks not published yet."""
        return sum(file.count for file in self._files)

    @property
    def waiting_bytes(self) -> int:
        """Size of the webhooks not published yet, in bytes."""
        return sum(file.bytes for file in self._files)

    def append(self, rows: Sequence[bytes]) -> None:
        """Write encoded webhooks; they are synced when this returns.

        Raises:
            OSError: they could not be written.
        """
        file = self._current
        if file is not None and not file.is_in_place():
            # Invariant: a webhook is only written to a file that its path leads to.
            # Why: after a crash, the next process finds files by their paths.
            # Without it: webhooks answered 200 would vanish with the process, in a deleted file.
            metrics.FAILURES.labels("spool", "removed").inc()
            log.error(
                "a file of the spool was removed or moved while it was in use: webhooks in it are "
                "published from there unless this process is killed first",
                file=str(file.path),
                webhooks=file.count,
            )
            file = None
        if file is None or not file.has_capacity(sum(map(record_size, rows))):
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sequence += 1
            file = SpoolFile.create(self._path, self._sequence)
            self._files += (file,)
            self._current = file
        try:
            file.append(rows)
        except OSError:
            # Invariant: nothing is appended to a file after a write or sync of it failed.
            # Why: the kernel drops the pages that it could not write, and the next sync succeeds
            # without them.
            # Without it: a later webhook would be answered 200 behind bytes that are not on disk.
            self._current = None
            self._retire(file)
            raise

    def head(self, limit: int, max_bytes: int) -> list[Spooled]:
        """Return the oldest pending webhooks; see `Spool.head`."""
        items: list[Spooled] = []
        size = 0
        for file in self._files:
            seen = 0
            for record in self._records(file):
                if items and (len(items) == limit or size + record.size > max_bytes):
                    return items
                if (webhook := self._decoded(file, record)) is not None:
                    seen += 1
                    size += record.size
                    items.append(Spooled(file, record.offset, record.size, webhook))
            if places := file.recount(seen):
                report_damage(file.path, places)
            self._retire(file)
        return items

    def remove(self, items: Sequence[Spooled]) -> None:
        """Remove webhooks that JetStream has stored. Disk errors are logged, never raised."""
        mark_error: OSError | None = None
        for item in items:
            mark_error = item.file.mark_published(item.offset, item.size) or mark_error
        if mark_error is not None:
            metrics.FAILURES.labels("spool", "mark").inc()
            log.warning(
                "the spool cannot mark webhooks as published; after a restart they are published "
                "again, and the duplicates are dropped",
                reason=str(mark_error),
            )
        for file in {id(item.file): item.file for item in items}.values():
            self._retire(file)

    def set_aside(self, item: Spooled) -> None:
        """Exclude a webhook from `head` until the next start."""
        self._set_aside(item.file, item.offset, item.size)
        self._retire(item.file)

    def adopt(self) -> None:
        """Take over the files of processes that have ended, and count the files set aside."""
        for file in self._adoption.adopt(lambda: self._files, self.append):
            self._files += (file,)
            self._retire(file)
        self._sequence = max(self._sequence, self._adoption.latest)
        self._files = tuple(sorted(self._files, key=lambda file: sequence_of(file.path)))
        self._count_files_aside()

    def close(self) -> None:
        """Close the files and release their locks; another process may then adopt them."""
        for file in self._files:
            file.close()
        self._files = ()

    def _records(self, file: SpoolFile) -> Iterator[Record]:
        try:
            yield from file.pending()
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("the spool cannot be read", file=str(file.path), reason=str(error))

    def _decoded(self, file: SpoolFile, record: Record) -> QueuedWebhook | None:
        try:
            return _decode(record.content)
        except NOT_JSON as error:
            log.warning(
                "a webhook in the spool cannot be decoded and is set aside",
                file=str(file.path),
                offset=record.offset,
                reason=str(error),
            )
            metrics.FAILURES.labels("spool", "undecodable").inc()
            self._set_aside(file, record.offset, record.size)
            return None

    def _set_aside(self, file: SpoolFile, offset: int, size: int) -> None:
        SET_ASIDE.inc()
        self.refused += 1
        file.set_aside(offset, size)

    def _retire(self, file: SpoolFile) -> None:
        """Remove a file without pending webhooks, or move it to `set-aside` if it is damaged."""
        if file.count or file not in self._files:
            return
        if file.has_refused and not file.damaged:
            # The refused webhooks are tried again at the next start.
            return
        if file is self._current:
            self._current = None
        self._files = tuple(other for other in self._files if other is not file)
        try:
            # Invariant: a file with damage is moved, never deleted.
            # Why: its unreadable bytes may contain webhooks that were answered 200.
            # Without it: an operator could not recover their bodies with `hogsend spool read`.
            if file.damaged:
                self._aside.move_here([file.path])
                self._count_files_aside()
            else:
                file.path.unlink(missing_ok=True)
        except OSError as error:
            metrics.FAILURES.labels("spool", "remove").inc()
            log.warning(
                "a file of the spool whose webhooks are all published cannot be removed",
                file=str(file.path),
                reason=str(error),
            )
            self._adoption.ignore(file.path)
        file.close()

    def _count_files_aside(self) -> None:
        try:
            self.files_aside = self._aside.count() + self._adoption.forbidden_count
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("the files that are set aside cannot be counted", reason=str(error))
        FILES_SET_ASIDE.set(self.files_aside)


def _prepare(directory: Path) -> None:
    # Permissions are checked without a write: a gateway must also start while the disk is full.
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        writable = os.access(directory, os.R_OK | os.W_OK | os.X_OK)
        reason = "not permitted"
    except OSError as error:
        writable, reason = False, str(error.strerror)
    if not writable:
        raise CannotStart(f"SPOOL_DIR {directory} cannot be written ({reason})")
