"""Takes over the files of processes that have ended, and the spool of Hogsend 0.1.

A file that cannot be opened is treated as damaged, unless the error has a cause outside the file:
missing permissions, or a shortage of descriptors, memory or locks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import structlog

from hogsend.service import metrics
from services.gateway.webhooks.spool.file import SpoolFile
from services.gateway.webhooks.spool.names import SUFFIX, sequence_of
from services.gateway.webhooks.spool.partial_files import remove_partial_files
from services.gateway.webhooks.spool.set_aside import SetAside, report_damage
from services.gateway.webhooks.spool.sqlite_spool import SQLiteSpool

log = structlog.get_logger(__name__)

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK})
"""Errors that do not mean damage: the machine is temporarily short of a resource."""
NOT_PERMITTED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors that do not mean damage: another user's process may be writing to the file."""
IMPORT_BYTES = 1024 * 1024
"""Bytes of the SQLite spool that are in memory at once."""


class Adoption:
    """Finds and locks the files of a directory that no process owns. Called periodically."""

    def __init__(self, directory: Path, aside: SetAside) -> None:
        """Search `directory`; damaged files that cannot be opened are moved to `aside`."""
        self.latest = 0
        """Highest sequence of a file in the directory, of all processes."""
        self._directory = directory
        self._aside = aside
        self._forbidden: set[Path] = set()
        """Files that this process may not open. They are tried again at each `adopt`."""
        self._ignored: set[Path] = set()
        """Files that could be neither read nor moved. The next process tries them again."""

    @property
    def forbidden_count(self) -> int:
        """How many files this process may not open."""
        return len(self._forbidden)

    def ignore(self, path: Path) -> None:
        """Skip a file in every later `adopt`."""
        self._ignored.add(path)

    def adopt(
        self,
        owned: Callable[[], Sequence[SpoolFile]],
        append: Callable[[Sequence[bytes]], None],
    ) -> list[SpoolFile]:
        """Lock and return the files that no process owns, in the order of their sequence.

        Args:
            owned: returns the files that this process owns already. `append` may add to them.
            append: writes encoded webhooks of the SQLite spool to files of this process.
        """
        forbidden_before, self._forbidden = self._forbidden, set()
        self._import_sqlite(append, forbidden_before)
        try:
            remove_partial_files(self._directory)
            paths = sorted(self._directory.glob(f"*{SUFFIX}"), key=sequence_of)
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("SPOOL_DIR cannot be read", reason=str(error))
            self._forbidden |= forbidden_before
            return []
        if paths:
            # Invariant: a new file's sequence is above that of every file in the directory.
            # Why: `SpoolDirectory` numbers its next file after `latest`.
            # Without it: webhooks accepted now would be published before those accepted earlier.
            self.latest = max(self.latest, sequence_of(paths[-1]))
        skipped = self._ignored | {file.path for file in owned()}
        adopted = [self._take_over(path, forbidden_before) for path in paths if path not in skipped]
        return [file for file in adopted if file is not None]

    def _take_over(self, path: Path, forbidden_before: Collection[Path]) -> SpoolFile | None:
        try:
            file = SpoolFile.adopt(path)
        except OSError as error:
            if not self._is_retried(path, error, forbidden_before):
                report_damage(path, 1, str(error))
                self._set_aside(path)
            return None
        if file is None:
            return None
        if file.unfinished:
            log.warning(
                "a file of the spool ends with a write that a crash interrupted; it was never "
                "answered 200",
                file=str(path),
            )
        if file.damaged:
            report_damage(path, file.damaged)
        return file

    def _set_aside(self, path: Path) -> None:
        try:
            self._aside.move_here([path])
        except OSError as error:
            metrics.FAILURES.labels("spool", "set_aside").inc()
            log.warning(
                "a damaged file of the spool cannot be set aside", file=str(path), reason=str(error)
            )
            self.ignore(path)

    def _is_retried(self, path: Path, error: OSError, forbidden_before: Collection[Path]) -> bool:
        """Whether a file that cannot be opened is tried again later; logs why.

        Invariant: a file is set aside only if the error is one of the file itself.
        Why: a file that lacks permissions, or is opened during a shortage, may be undamaged.
        Without it: webhooks answered 200 would wait in `set-aside`, where nothing publishes them.
        """
        if error.errno in NOT_PERMITTED:
            self._forbidden.add(path)
            metrics.FAILURES.labels("spool", "not_permitted").inc()
            if path not in forbidden_before:
                log.error(
                    "a file of the spool may not be opened, so its webhooks are not published "
                    "here: give it to the user that the gateway runs as",
                    file=str(path),
                    reason=str(error),
                )
            return True
        if error.errno in SHORTAGES:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning(
                "a file of the spool cannot be opened now and is tried again",
                file=str(path),
                reason=str(error),
            )
            return True
        return False

    def _import_sqlite(
        self, append: Callable[[Sequence[bytes]], None], forbidden_before: Collection[Path]
    ) -> None:
        """Move the webhooks of the SQLite spool, if there is one, to files of today's format."""
        earlier = SQLiteSpool.find(self._directory)
        if earlier is None or earlier.path in self._ignored:
            return
        for path in earlier.files:
            try:
                # SQLite does not report why it cannot open a file, so it is opened here first.
                os.close(os.open(path, os.O_RDWR))
            except OSError as error:
                if self._is_retried(path, error, forbidden_before):
                    return
        try:
            _append_parts(earlier, append)
            if earlier.busy:
                return
            # Invariant: the SQLite spool is removed only after its webhooks are synced elsewhere.
            # Why: `append` returns after the sync, and an error skips the lines below.
            # Without it: a crash in between would lose webhooks answered 200.
            if earlier.damaged:
                report_damage(earlier.path, 1)
                self._aside.move_here(earlier.files)
            else:
                for path in earlier.files:
                    path.unlink(missing_ok=True)
            log.info("the spool of an earlier version was taken over")
        except OSError as error:
            # Webhooks moved before the error are imported and published again after the next
            # start. JetStream and ingest drop the duplicates.
            metrics.FAILURES.labels("spool", "import").inc()
            log.warning(
                "the spool of an earlier version cannot be taken over; the next start tries again",
                reason=str(error),
            )
            self.ignore(earlier.path)


def _append_parts(earlier: SQLiteSpool, append: Callable[[Sequence[bytes]], None]) -> None:
    """Append the webhooks of the SQLite spool in parts of about `IMPORT_BYTES`."""
    rows: list[bytes] = []
    size = 0
    for content in earlier.contents():
        rows.append(content)
        size += len(content)
        if size > IMPORT_BYTES:
            append(rows)
            rows, size = [], 0
    if rows:
        append(rows)
