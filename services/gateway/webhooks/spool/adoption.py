"""Takes over the files of processes that have ended, and the spool of an earlier version.

A file that cannot be opened is damaged, unless the error says nothing of the file itself.
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
from services.gateway.webhooks.spool.set_aside import SetAside, say_damaged
from services.gateway.webhooks.spool.sqlite_spool import SQLiteSpool
from services.gateway.webhooks.spool.unfinished import remove_unfinished

log = structlog.get_logger(__name__)

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK})
"""Errors that say nothing of a file: this machine is short of something for a while."""
NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors that say nothing of it either: a process of another user may be writing to it now."""
IMPORT_BYTES = 1024 * 1024
"""How much of an earlier version's spool is in memory at once."""


class Adoption:
    """What this process may have of a directory, looked for again and again."""

    def __init__(self, directory: Path, aside: SetAside) -> None:
        """Look in `directory`, and move what is damaged to `aside`."""
        self.latest = 0
        """The highest sequence of a file in the directory, those of other processes included."""
        self._directory = directory
        self._aside = aside
        self._not_ours: set[Path] = set()
        """Files that may not be opened; looked at again each time."""
        self._left_alone: set[Path] = set()
        """Files that could be neither read nor moved; looked at again by the next process."""

    @property
    def not_ours(self) -> int:
        """How many files may not be opened."""
        return len(self._not_ours)

    def leave_alone(self, path: Path) -> None:
        """Do not look at a file again."""
        self._left_alone.add(path)

    def adopt(
        self,
        owned: Callable[[], Sequence[SpoolFile]],
        append: Callable[[Sequence[bytes]], None],
    ) -> list[SpoolFile]:
        """Take over what may be had, in the order of its sequence.

        Args:
            owned: gives the files of this process, to which `append` adds.
            append: writes webhooks of an earlier version into files of this process.
        """
        known, self._not_ours = self._not_ours, set()
        self._import_sqlite(append, known)
        try:
            remove_unfinished(self._directory)
            paths = sorted(self._directory.glob(f"*{SUFFIX}"), key=sequence_of)
        except OSError as error:
            metrics.FAILURES.labels("spool", "read").inc()
            log.warning("SPOOL_DIR cannot be read", reason=str(error))
            self._not_ours |= known
            return []
        if paths:
            self.latest = max(self.latest, sequence_of(paths[-1]))
        passed_over = self._left_alone | {file.path for file in owned()}
        taken = [self._take_over(path, known) for path in paths if path not in passed_over]
        return [file for file in taken if file is not None]

    def _take_over(self, path: Path, known: Collection[Path]) -> SpoolFile | None:
        try:
            file = SpoolFile.adopt(path)
        except OSError as error:
            if not self._is_left_for_later(path, error, known):
                say_damaged(path, 1, str(error))
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
            say_damaged(path, file.damaged)
        return file

    def _set_aside(self, path: Path) -> None:
        try:
            self._aside.take([path])
        except OSError as error:
            metrics.FAILURES.labels("spool", "set_aside").inc()
            log.warning(
                "a damaged file of the spool cannot be set aside", file=str(path), reason=str(error)
            )
            self.leave_alone(path)

    def _is_left_for_later(self, path: Path, error: OSError, known: Collection[Path]) -> bool:
        """Say why a file cannot be opened, if that may be over the next time."""
        if error.errno in NOT_OURS:
            self._not_ours.add(path)
            metrics.FAILURES.labels("spool", "not_permitted").inc()
            if path not in known:
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
                "a file of the spool waits until it can be opened",
                file=str(path),
                reason=str(error),
            )
            return True
        return False

    def _import_sqlite(
        self, append: Callable[[Sequence[bytes]], None], known: Collection[Path]
    ) -> None:
        """Move what an earlier version left into files of today's."""
        earlier = SQLiteSpool.find(self._directory)
        if earlier is None or earlier.path in self._left_alone:
            return
        for path in earlier.files:
            try:
                # SQLite does not say why it cannot open a file.
                os.close(os.open(path, os.O_RDWR))
            except OSError as error:
                if self._is_left_for_later(path, error, known):
                    return
        try:
            _append_parts(earlier, append)
            if earlier.busy:
                return
            if earlier.damaged:
                say_damaged(earlier.path, 1)
                self._aside.take(earlier.files)
            else:
                for path in earlier.files:
                    path.unlink(missing_ok=True)
            log.info("the spool of an earlier version was taken over")
        except OSError as error:
            # What was moved is published, and again after the next start, which is noticed.
            metrics.FAILURES.labels("spool", "import").inc()
            log.warning("the spool of an earlier version waits for a restart", reason=str(error))
            self.leave_alone(earlier.path)


def _append_parts(earlier: SQLiteSpool, append: Callable[[Sequence[bytes]], None]) -> None:
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
