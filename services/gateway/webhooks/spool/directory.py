"""The spool's files in their directory: written, read, and removed once they are done with.

Several processes may use one directory: each file is owned by the process that locks it, and those
of a process that has ended are adopted.
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
from services.gateway.webhooks.spool.set_aside import SetAside, say_damaged

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
    """The files that this process owns. All methods are for one thread, and wait for the disk."""

    def __init__(self, path: Path) -> None:
        """Open a directory, which is created if missing; `adopt` takes what is in it.

        Raises:
            CannotStart: it is not writable.
        """
        self.refused = 0
        """Webhooks that are passed over until the next start."""
        self.files_aside = 0
        """Files that are damaged or may not be opened, those of other processes included."""
        self._path = path
        self._aside = SetAside(path)
        self._adoption = Adoption(path, self._aside)
        self._files: tuple[SpoolFile, ...] = ()
        """Replaced, never changed: other threads count what is in it."""
        self._current: SpoolFile | None = None
        self._sequence = 0
        _prepare(path)

    @property
    def count(self) -> int:
        """Webhooks that wait; any thread may ask."""
        return sum(file.count for file in self._files)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes they are; any thread may ask."""
        return sum(file.bytes for file in self._files)

    def append(self, rows: Sequence[bytes]) -> None:
        """Write webhooks; they are synced when this returns.

        Raises:
            OSError: they could not be written.
        """
        file = self._current
        if file is not None and not file.is_in_place():
            # Webhooks that are written to it now would not be found by another process.
            metrics.FAILURES.labels("spool", "removed").inc()
            log.error(
                "a file of the spool was removed or moved while it was in use: webhooks in it are "
                "published from there unless this process is killed first",
                file=str(file.path),
                webhooks=file.count,
            )
            file = None
        if file is None or not file.has_room(sum(map(record_size, rows))):
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sequence += 1
            file = SpoolFile.create(self._path, self._sequence)
            self._files += (file,)
            self._current = file
        try:
            file.append(rows)
        except OSError:
            # What a failed sync left of this file on disk cannot be known: begin another one.
            self._current = None
            self._retire(file)
            raise

    def head(self, limit: int, max_bytes: int) -> list[Spooled]:
        """Return the oldest webhooks; see `Spool.head`."""
        found: list[Spooled] = []
        size = 0
        for file in self._files:
            seen = 0
            for record in self._records(file):
                if found and (len(found) == limit or size + record.size > max_bytes):
                    return found
                if (webhook := self._decoded(file, record)) is not None:
                    seen += 1
                    size += record.size
                    found.append(Spooled(file, record.offset, record.size, webhook))
            if places := file.recount(seen):
                say_damaged(file.path, places)
            self._retire(file)
        return found

    def remove(self, items: Sequence[Spooled]) -> None:
        """Forget webhooks that JetStream has stored. It does not fail, whatever the disk does."""
        problem: OSError | None = None
        for item in items:
            problem = item.file.mark_published(item.offset, item.size) or problem
        if problem is not None:
            metrics.FAILURES.labels("spool", "mark").inc()
            log.warning(
                "the spool cannot keep what was published; after a restart it is published again, "
                "which is noticed and dropped",
                reason=str(problem),
            )
        for file in {id(item.file): item.file for item in items}.values():
            self._retire(file)

    def pass_over(self, item: Spooled) -> None:
        """Exclude a webhook from `head`, until the next start."""
        self._pass_over(item.file, item.offset, item.size)
        self._retire(item.file)

    def adopt(self) -> None:
        """Take over what a process left that has ended, and look what is set aside."""
        for file in self._adoption.adopt(lambda: self._files, self.append):
            self._files += (file,)
            self._retire(file)
        self._sequence = max(self._sequence, self._adoption.latest)
        self._files = tuple(sorted(self._files, key=lambda file: sequence_of(file.path)))
        self._count_files_aside()

    def close(self) -> None:
        """Give the files up; another process may adopt them."""
        for file in self._files:
            file.close()
        self._files = ()

    def _records(self, file: SpoolFile) -> Iterator[Record]:
        try:
            yield from file.waiting()
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
            self._pass_over(file, record.offset, record.size)
            return None

    def _pass_over(self, file: SpoolFile, offset: int, size: int) -> None:
        SET_ASIDE.inc()
        self.refused += 1
        file.set_aside(offset, size)

    def _retire(self, file: SpoolFile) -> None:
        """Remove a file with nothing left to publish, or set it aside if it is damaged."""
        if file.count or file not in self._files:
            return
        if file.holds_refused and not file.damaged:
            # It is tried again at the next start.
            return
        if file is self._current:
            self._current = None
        self._files = tuple(one for one in self._files if one is not file)
        try:
            if file.damaged:
                self._aside.take([file.path])
                self._count_files_aside()
            else:
                file.path.unlink(missing_ok=True)
        except OSError as error:
            metrics.FAILURES.labels("spool", "remove").inc()
            log.warning(
                "a file of the spool is done with and cannot be removed",
                file=str(file.path),
                reason=str(error),
            )
            self._adoption.leave_alone(file.path)
        file.close()

    def _count_files_aside(self) -> None:
        try:
            self.files_aside = self._aside.count() + self._adoption.not_ours
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("files that are set aside are not counted", reason=str(error))
        FILES_SET_ASIDE.set(self.files_aside)


def _prepare(directory: Path) -> None:
    # Nothing is written yet: a disk that is full now must not keep a gateway from starting.
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        writable = os.access(directory, os.R_OK | os.W_OK | os.X_OK)
        reason = "not permitted"
    except OSError as error:
        writable, reason = False, str(error.strerror)
    if not writable:
        raise CannotStart(f"SPOOL_DIR {directory} cannot be written ({reason})")
