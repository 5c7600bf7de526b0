"""The spool: a bounded queue of webhooks on disk, used while JetStream does not accept them.

Concurrent appends share one write and one sync, and survive a power failure. Damaged files are
logged, counted and set aside; they never stop other webhooks from being accepted or published.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from hogsend.contract.errors import SpoolFull
from hogsend.service import metrics
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.directory import SpoolDirectory, Spooled
from services.gateway.webhooks.spool.file import MAX_FILE_BYTES
from services.gateway.webhooks.spool.format import record_size

T = TypeVar("T")

log = structlog.get_logger(__name__)

SPOOLED = Counter("hogsend_spool_appended", "Webhooks written to the spool")
WAITING = Gauge("hogsend_spool_deliveries", "Webhooks waiting in the spool")
BYTES = Gauge("hogsend_spool_bytes", "Bytes of webhooks waiting in the spool")
LIMIT = Gauge("hogsend_spool_limit_bytes", "Bytes that the spool may hold")

LOG_EVERY_SECONDS = 60.0
"""Failed writes are logged at most this often. A metric counts each of them."""

_encode = msgspec.msgpack.Encoder().encode


class Spool:
    """A queue on disk of at most `max_bytes`. A thread of its own accesses the files."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Open the queue in `directory` with its existing content; create a missing directory.

        Raises:
            CannotStart: the directory is not writable.
        """
        self._max_bytes = max_bytes
        LIMIT.set(max_bytes)
        self._appending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._being_written = 0
        self._bytes_being_written = 0
        self._writer: asyncio.Task[None] | None = None
        self._log_again_at = 0.0
        self._refused_size: int | None = None
        self._writes_fail = False
        self._files = SpoolDirectory(directory)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._thread.submit(self._files.adopt).result()
        self._report()

    @property
    def count(self) -> int:
        """Webhooks not published yet, those being written included."""
        return self._being_written + self._files.count

    @property
    def waiting_bytes(self) -> int:
        """Size of the webhooks not published yet, in bytes, those being written included."""
        return self._bytes_being_written + self._files.waiting_bytes

    @property
    def is_full(self) -> bool:
        """Whether writes fail, or a webhook of the size last refused would be refused again."""
        refused = self._refused_size
        return self._writes_fail or (
            refused is not None and self.waiting_bytes + refused > self._max_bytes
        )

    @property
    def refused_count(self) -> int:
        """Webhooks that are excluded until the next start."""
        return self._files.refused

    @property
    def files_aside(self) -> int:
        """Files that are damaged or may not be opened, of all processes."""
        return self._files.files_aside

    async def append(self, webhook: QueuedWebhook) -> None:
        """Write a webhook to disk; it is synced when this returns.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
        """
        row = _encode(webhook)
        size = record_size(row)
        if self.waiting_bytes + size > self._max_bytes:
            self._refused_size = size
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
        """Return the oldest webhooks, without those set aside.

        Args:
            limit: maximum number of webhooks.
            max_bytes: maximum size of all of them. The first webhook is returned even if larger.
        """
        items = await self._run(partial(self._files.head, limit, max_bytes))
        self._report()
        return items

    async def remove(self, items: Sequence[Spooled]) -> None:
        """Remove webhooks that JetStream has stored. Disk errors are logged, never raised."""
        await self._run(partial(self._files.remove, items))
        self._report()

    async def set_aside(self, item: Spooled, reason: str) -> None:
        """Exclude a webhook that JetStream refuses from `head` until the next start."""
        metrics.FAILURES.labels("spool", "refused").inc()
        log.error("JetStream refuses a spooled webhook", id=item.webhook.id, reason=reason)
        await self._run(partial(self._files.set_aside, item))
        self._report()

    async def adopt(self) -> None:
        """Take over the files of processes that have ended, and count the files set aside."""
        await self._run(self._files.adopt)
        self._report()

    async def close(self) -> None:
        """Finish pending writes and close the files."""
        if self._writer is not None:
            await self._writer
        await self._run(self._files.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        """Write appended webhooks in batches until no more are waiting."""
        while self._appending:
            batch, self._appending = self._appending, []
            for part in _parts(batch):
                try:
                    await self._run(partial(self._files.append, [row for row, _ in part]))
                except Exception as error:  # noqa: BLE001 - raised by each waiting `append`
                    if isinstance(error, OSError):
                        self._writes_fail = True
                        self._log_write_failure(error)
                    for _, written in part:
                        written.set_exception(error)
                else:
                    # Invariant: `append` returns only after its webhook was synced.
                    # Why: its caller then answers 200.
                    # Without it: a crash would lose an accepted webhook.
                    self._writes_fail = False
                    SPOOLED.inc(len(part))
                    for _, written in part:
                        written.set_result(None)
        self._writer = None

    def _log_write_failure(self, error: OSError) -> None:
        metrics.FAILURES.labels("spool", "write").inc()
        now = time.monotonic()
        if now < self._log_again_at:
            return
        self._log_again_at = now + LOG_EVERY_SECONDS
        log.error(
            "the spool cannot be written: webhooks are answered 429 until it can, or until "
            "JetStream accepts them",
            reason=str(error),
        )

    def _wrote(self, size: int, _written: asyncio.Future[None]) -> None:
        self._being_written -= 1
        self._bytes_being_written -= size
        self._report()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _report(self) -> None:
        WAITING.set(self.count)
        BYTES.set(self.waiting_bytes)


def _parts(
    batch: list[tuple[bytes, asyncio.Future[None]]],
) -> Iterator[list[tuple[bytes, asyncio.Future[None]]]]:
    """Split a batch into parts of at most half a file, or of one larger webhook."""
    part: list[tuple[bytes, asyncio.Future[None]]] = []
    size = 0
    for row, written in batch:
        if part and size + record_size(row) > MAX_FILE_BYTES // 2:
            yield part
            part, size = [], 0
        part.append((row, written))
        size += record_size(row)
    yield part
