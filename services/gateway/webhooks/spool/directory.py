"""The spool's files in their directory: written, read, adopted, and set aside where damaged.

Several processes may use one directory: each file is owned by the process that locks it, and those
of a process that has ended are adopted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from hogsend.contract.errors import CannotStart
from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.file import (
    SUFFIX,
    SpoolFile,
    remove_unfinished,
    sequence_of,
)
from services.gateway.webhooks.spool.format import Record, record_size
from services.gateway.webhooks.spool.sqlite_spool import SQLiteSpool

log = structlog.get_logger(__name__)

SET_ASIDE = Gauge(
    "hogsend_spool_set_aside", "Spooled webhooks that JetStream refuses, or that cannot be decoded"
)
DAMAGED = Counter("hogsend_spool_damaged", "Places in files of the spool that cannot be read")
FILES_SET_ASIDE = Gauge(
    "hogsend_spool_files_set_aside",
    "Damaged files in SPOOL_DIR/set-aside, and files of the spool that may not be opened",
)

SET_ASIDE_DIRECTORY = "set-aside"
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK})
"""Errors that say nothing of a file: this machine is short of something for a while."""
NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors that say nothing of it either: a process of another user may be writing to it now."""
IMPORT_BYTES = 1024 * 1024
"""How much of an earlier version's spool is in memory at once."""

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
        self._aside = path / SET_ASIDE_DIRECTORY
        self._files: list[SpoolFile] = []
        self._current: SpoolFile | None = None
        self._sequence = 0
        self._not_ours: set[Path] = set()
        """Files that may not be opened; looked at again by every `adopt`."""
        self._left_alone: set[Path] = set()
        """Files that could be neither read nor moved; looked at again by the next process."""
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
            self._files.append(file)
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
        for file in list(self._files):
            seen = 0
            for record in self._records(file):
                if found and (len(found) == limit or size + record.size > max_bytes):
                    return found
                if (webhook := self._decoded(file, record)) is not None:
                    seen += 1
                    size += record.size
                    found.append(Spooled(file, record.offset, record.size, webhook))
            if places := file.recount(seen):
                _say_damaged(file.path, places)
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
        self._import_sqlite()
        owned = {file.path for file in self._files}
        try:
            remove_unfinished(self._path)
            paths = sorted(self._path.glob(f"*{SUFFIX}"), key=sequence_of)
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("SPOOL_DIR cannot be read", reason=str(error))
            return
        not_ours, self._not_ours = self._not_ours, set()
        for path in paths:
            self._sequence = max(self._sequence, sequence_of(path))
            if path not in owned | self._left_alone:
                self._take_over(path, said=path in not_ours)
        self._files.sort(key=lambda file: sequence_of(file.path))
        self._count_files_aside()

    def close(self) -> None:
        """Give the files up; another process may adopt them."""
        for file in self._files:
            file.close()
        self._files.clear()

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
        self._files.remove(file)
        try:
            if file.damaged:
                self._move_aside([file.path])
            else:
                file.path.unlink(missing_ok=True)
        except OSError as error:
            metrics.FAILURES.labels("spool", "remove").inc()
            log.warning(
                "a file of the spool is done with and cannot be removed",
                file=str(file.path),
                reason=str(error),
            )
            self._left_alone.add(file.path)
        file.close()

    def _count_files_aside(self) -> None:
        try:
            aside = len(list(self._aside.iterdir())) if self._aside.is_dir() else 0
            self.files_aside = aside + len(self._not_ours)
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("files that are set aside are not counted", reason=str(error))
        FILES_SET_ASIDE.set(self.files_aside)

    def _take_over(self, path: Path, *, said: bool) -> None:
        try:
            file = SpoolFile.adopt(path)
        except OSError as error:
            if error.errno in NOT_OURS:
                self._leave_to_others(path, str(error), said=said)
                return
            if error.errno in SHORTAGES:
                metrics.FAILURES.labels("spool", "read").inc()
                log.warning(
                    "a file of the spool waits until it can be opened",
                    file=str(path),
                    reason=str(error),
                )
                return
            _say_damaged(path, 1, str(error))
            try:
                self._move_aside([path])
            except OSError as refused:
                metrics.FAILURES.labels("spool", "set_aside").inc()
                log.warning(
                    "a damaged file of the spool cannot be set aside",
                    file=str(path),
                    reason=str(refused),
                )
                self._left_alone.add(path)
            return
        if file is None:
            return
        self._files.append(file)
        if file.unfinished:
            log.warning(
                "a file of the spool ends with a write that a crash interrupted; it was never "
                "answered 200",
                file=str(path),
            )
        if file.damaged:
            _say_damaged(path, file.damaged)
        self._retire(file)

    def _leave_to_others(self, path: Path, reason: str, *, said: bool) -> None:
        self._not_ours.add(path)
        metrics.FAILURES.labels("spool", "not_permitted").inc()
        if not said:
            log.error(
                "a file of the spool may not be opened, so its webhooks are not published here: "
                "give it to the user that the gateway runs as",
                file=str(path),
                reason=reason,
            )

    def _import_sqlite(self) -> None:
        """Move what an earlier version left into files of today's."""
        earlier = SQLiteSpool.find(self._path)
        if earlier is None or earlier.path in self._left_alone:
            return
        rows: list[bytes] = []
        try:
            for content in earlier.contents():
                rows.append(content)
                if sum(map(len, rows)) > IMPORT_BYTES:
                    self.append(rows)
                    rows = []
            if rows:
                self.append(rows)
            if earlier.busy:
                return
            if earlier.damaged:
                _say_damaged(earlier.path, 1)
                self._move_aside(earlier.files)
            else:
                for path in earlier.files:
                    path.unlink(missing_ok=True)
            log.info("the spool of an earlier version was taken over")
        except OSError as error:
            # What was moved is published, and again after the next start, which is noticed.
            metrics.FAILURES.labels("spool", "import").inc()
            log.warning("the spool of an earlier version waits for a restart", reason=str(error))
            self._left_alone.add(earlier.path)

    def _move_aside(self, paths: Iterable[Path]) -> None:
        self._aside.mkdir(mode=0o700, exist_ok=True)
        for path in paths:
            target, number = self._aside / path.name, 0
            while target.exists():
                number += 1
                target = self._aside / f"{path.name}.{number}"
            path.rename(target)
        self._count_files_aside()


def _say_damaged(path: Path, places: int, reason: str = "damaged") -> None:
    DAMAGED.inc(places)
    metrics.FAILURES.labels("spool", "damaged").inc()
    log.error(
        "a file of the spool is damaged: webhooks in it may be lost. Everything that can be "
        "read is published, then the file is kept in SPOOL_DIR/set-aside; "
        "`hogsend spool read` shows what is left of the rest.",
        file=path.name,
        places=places,
        reason=reason,
    )


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
