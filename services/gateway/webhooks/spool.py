"""The spool: a bounded queue of webhooks in files, for when JetStream is unavailable.

Concurrent appends share one write and one sync; they survive a power cut. What is damaged is set
aside, said and counted, and never keeps anything else from being accepted or published.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from hogsend.contract.errors import CannotStart, SpoolFull
from hogsend.service import metrics
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool_file import (
    MAX_FILE_BYTES,
    SUFFIX,
    Record,
    SpoolFile,
    record_size,
    remove_unfinished,
    sequence_of,
)
from services.gateway.webhooks.sqlite_spool import SQLiteSpool

T = TypeVar("T")

log = structlog.get_logger(__name__)

SPOOLED = Counter("hogsend_spool_appended", "Webhooks written to the spool")
WAITING = Gauge("hogsend_spool_deliveries", "Webhooks waiting in the spool")
BYTES = Gauge("hogsend_spool_bytes", "Bytes of webhooks waiting in the spool")
LIMIT = Gauge("hogsend_spool_limit_bytes", "Bytes that the spool may hold")
SET_ASIDE = Gauge(
    "hogsend_spool_set_aside", "Spooled webhooks that JetStream refuses, or that cannot be decoded"
)
DAMAGED = Counter("hogsend_spool_damaged", "Places in files of the spool that cannot be read")
FILES_SET_ASIDE = Gauge("hogsend_spool_files_set_aside", "Damaged files in SPOOL_DIR/set-aside")

SET_ASIDE_DIRECTORY = "set-aside"
IMPORT_BYTES = 1024 * 1024
"""How much of an earlier version's spool is in memory at once."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(QueuedWebhook).decode


class Spooled(msgspec.Struct, frozen=True):
    """A webhook and its place in the spool."""

    file: SpoolFile
    offset: int
    size: int
    webhook: QueuedWebhook


class Spool:
    """A queue on disk that holds at most `max_bytes`.

    Several processes may use one directory: each file is owned by the process that locks it, and
    those of a process that has ended are adopted.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Open the queue in `directory`, which is created if missing, with its earlier content.

        Raises:
            CannotStart: the directory is not writable.
        """
        self._directory = directory
        self._aside = directory / SET_ASIDE_DIRECTORY
        self._max_bytes = max_bytes
        LIMIT.set(max_bytes)
        self._appending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._being_written = 0
        self._bytes_being_written = 0
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        # What follows is changed in that thread only.
        self._files: list[SpoolFile] = []
        self._current: SpoolFile | None = None
        self._sequence = 0
        self._left_alone: set[Path] = set()
        """Files that could be neither read nor moved; looked at again by the next process."""
        self._refused = 0
        self._files_aside = 0
        _prepare(directory)
        self._thread.submit(self._adopt).result()
        self._report()

    @property
    def count(self) -> int:
        """Webhooks that wait."""
        return self._being_written + sum(file.count for file in self._files)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes they are."""
        return self._bytes_being_written + sum(file.bytes for file in self._files)

    @property
    def refused_count(self) -> int:
        """Webhooks that are passed over until the next start."""
        return self._refused

    @property
    def files_aside(self) -> int:
        """Damaged files beside it, whichever process put them there."""
        return self._files_aside

    async def append(self, webhook: QueuedWebhook) -> None:
        """Write a webhook to disk; it is synced when this returns.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
        """
        row = _encode(webhook)
        size = record_size(row)
        if self.waiting_bytes + size > self._max_bytes:
            raise SpoolFull("the spool is full")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._appending.append((row, written))
        self._being_written += 1
        self._bytes_being_written += size
        written.add_done_callback(partial(self._wrote, size))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        try:
            await asyncio.shield(written)
        except OSError as error:
            raise SpoolFull("the spool cannot be written") from error

    async def head(self, limit: int, max_bytes: int = MAX_FILE_BYTES) -> list[Spooled]:
        """Return the oldest webhooks, except those set aside: at least one, if there is any.

        Args:
            limit: how many webhooks at most.
            max_bytes: how many bytes at most, unless the first one alone is larger.
        """
        found = await self._run(partial(self._read, limit, max_bytes))
        self._report()
        return found

    async def remove(self, items: Sequence[Spooled]) -> None:
        """Forget webhooks that JetStream has stored. It does not fail, whatever the disk does."""
        await self._run(partial(self._delete, items))
        self._report()

    async def set_aside(self, item: Spooled, reason: str) -> None:
        """Exclude a webhook that JetStream refuses from `head`, until the next start."""
        metrics.FAILURES.labels("spool", "refused").inc()
        log.error("JetStream refuses a spooled webhook", id=item.webhook.id, reason=reason)
        await self._run(partial(self._pass_over, item.file, item.offset, item.size))
        self._report()

    async def adopt(self) -> None:
        """Take over what a process left that has ended, and look what is set aside."""
        await self._run(self._adopt)
        self._report()

    async def close(self) -> None:
        """Finish pending writes and close the files."""
        if self._writer is not None:
            await self._writer
        await self._run(self._close)
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._appending:
            batch, self._appending = self._appending, []
            for part in _parts(batch):
                try:
                    await self._run(partial(self._insert, [row for row, _ in part]))
                except Exception as error:  # noqa: BLE001 - those who wait for it are told
                    for _, written in part:
                        written.set_exception(error)
                else:
                    SPOOLED.inc(len(part))
                    for _, written in part:
                        written.set_result(None)
        self._writer = None

    def _wrote(self, size: int, _written: asyncio.Future[None]) -> None:
        self._being_written -= 1
        self._bytes_being_written -= size
        self._report()

    def _insert(self, rows: list[bytes]) -> None:
        file = self._current
        if file is None or not file.has_room(sum(map(record_size, rows))):
            self._sequence += 1
            file = SpoolFile.create(self._directory, self._sequence)
            self._files.append(file)
            self._current = file
        try:
            file.append(rows)
        except OSError:
            # What a failed sync left of this file on disk cannot be known: begin another one.
            self._current = None
            self._retire(file)
            raise

    def _read(self, limit: int, max_bytes: int) -> list[Spooled]:
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
            if lost := file.count - seen:
                file.lose(lost)
                self._say_damaged(file.path, lost)
            self._retire(file)
        return found

    def _records(self, file: SpoolFile) -> Iterator[Record]:
        try:
            yield from file.waiting()
        except OSError as error:
            log.warning("the spool cannot be read", file=str(file.path), reason=str(error))

    def _decoded(self, file: SpoolFile, record: Record) -> QueuedWebhook | None:
        try:
            return _decode(record.content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning(
                "a webhook in the spool cannot be decoded and is set aside",
                file=str(file.path),
                offset=record.offset,
                reason=str(error),
            )
            metrics.FAILURES.labels("spool", "undecodable").inc()
            self._pass_over(file, record.offset, record.size)
            return None

    def _delete(self, items: Sequence[Spooled]) -> None:
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

    def _pass_over(self, file: SpoolFile, offset: int, size: int) -> None:
        SET_ASIDE.inc()
        self._refused += 1
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

    def _adopt(self) -> None:
        self._import_sqlite()
        owned = {file.path for file in self._files}
        try:
            remove_unfinished(self._directory)
            paths = sorted(self._directory.glob(f"*{SUFFIX}"), key=sequence_of)
        except OSError as error:
            log.warning("SPOOL_DIR cannot be read", reason=str(error))
            return
        for path in paths:
            self._sequence = max(self._sequence, sequence_of(path))
            if path not in owned | self._left_alone:
                self._take_over(path)
        self._files.sort(key=lambda file: sequence_of(file.path))
        self._count_files_aside()

    def _count_files_aside(self) -> None:
        with contextlib.suppress(OSError):
            self._files_aside = len(list(self._aside.iterdir())) if self._aside.is_dir() else 0
        FILES_SET_ASIDE.set(self._files_aside)

    def _take_over(self, path: Path) -> None:
        try:
            file = SpoolFile.adopt(path)
        except OSError as error:
            self._say_damaged(path, 1, str(error))
            try:
                self._move_aside([path])
            except OSError:
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
            self._say_damaged(path, file.damaged)
        self._retire(file)

    def _import_sqlite(self) -> None:
        """Move what an earlier version left into files of today's."""
        earlier = SQLiteSpool.find(self._directory)
        if earlier is None or earlier.path in self._left_alone:
            return
        rows: list[bytes] = []
        try:
            for content in earlier.contents():
                rows.append(content)
                if sum(map(len, rows)) > IMPORT_BYTES:
                    self._insert(rows)
                    rows = []
            if rows:
                self._insert(rows)
            if earlier.busy:
                return
            if earlier.damaged:
                self._say_damaged(earlier.path, 1)
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

    def _say_damaged(self, path: Path, places: int, reason: str = "damaged") -> None:
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

    def _close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _report(self) -> None:
        WAITING.set(self.count)
        BYTES.set(self.waiting_bytes)


def _parts(
    batch: list[tuple[bytes, asyncio.Future[None]]],
) -> Iterator[list[tuple[bytes, asyncio.Future[None]]]]:
    """Split what is written at once, so that no part makes a file too large."""
    part: list[tuple[bytes, asyncio.Future[None]]] = []
    size = 0
    for row, written in batch:
        if part and size + record_size(row) > MAX_FILE_BYTES // 2:
            yield part
            part, size = [], 0
        part.append((row, written))
        size += record_size(row)
    yield part


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
