"""The spool: a bounded queue of webhooks in files, for when JetStream is unavailable.

Concurrent appends share one write and one sync; they survive a power cut. What is damaged is set
aside, said and counted, and never keeps anything else from being accepted or published.
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

SILENT_SECONDS = 60.0
"""After a line in the log about writes that fail; a metric counts them."""

_encode = msgspec.msgpack.Encoder().encode


class Spool:
    """A queue on disk that holds at most `max_bytes`; its thread writes and reads the files."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Open the queue in `directory`, which is created if missing, with its earlier content.

        Raises:
            CannotStart: the directory is not writable.
        """
        self._max_bytes = max_bytes
        LIMIT.set(max_bytes)
        self._appending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._being_written = 0
        self._bytes_being_written = 0
        self._writer: asyncio.Task[None] | None = None
        self._silent_until = 0.0
        self._refused_size: int | None = None
        self._writes_fail = False
        self._files = SpoolDirectory(directory)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._thread.submit(self._files.adopt).result()
        self._report()

    @property
    def count(self) -> int:
        """Webhooks that wait."""
        return self._being_written + self._files.count

    @property
    def waiting_bytes(self) -> int:
        """How many bytes they are."""
        return self._bytes_being_written + self._files.waiting_bytes

    @property
    def is_full(self) -> bool:
        """Whether it would refuse again what it refused last: there is no room, on disk either."""
        refused = self._refused_size
        return self._writes_fail or (
            refused is not None and self.waiting_bytes + refused > self._max_bytes
        )

    @property
    def refused_count(self) -> int:
        """Webhooks that are passed over until the next start."""
        return self._files.refused

    @property
    def files_aside(self) -> int:
        """Files that are damaged or may not be opened, those of other processes included."""
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
        """Return the oldest webhooks, except those set aside: at least one, if there is any.

        Args:
            limit: how many webhooks at most.
            max_bytes: how many bytes at most, unless the first one alone is larger.
        """
        found = await self._run(partial(self._files.head, limit, max_bytes))
        self._report()
        return found

    async def remove(self, items: Sequence[Spooled]) -> None:
        """Forget webhooks that JetStream has stored. It does not fail, whatever the disk does."""
        await self._run(partial(self._files.remove, items))
        self._report()

    async def set_aside(self, item: Spooled, reason: str) -> None:
        """Exclude a webhook that JetStream refuses from `head`, until the next start."""
        metrics.FAILURES.labels("spool", "refused").inc()
        log.error("JetStream refuses a spooled webhook", id=item.webhook.id, reason=reason)
        await self._run(partial(self._files.pass_over, item))
        self._report()

    async def adopt(self) -> None:
        """Take over what a process left that has ended, and look what is set aside."""
        await self._run(self._files.adopt)
        self._report()

    async def close(self) -> None:
        """Finish pending writes and close the files."""
        if self._writer is not None:
            await self._writer
        await self._run(self._files.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._appending:
            batch, self._appending = self._appending, []
            for part in _parts(batch):
                try:
                    await self._run(partial(self._files.append, [row for row, _ in part]))
                except Exception as error:  # noqa: BLE001 - those who wait for it are told
                    if isinstance(error, OSError):
                        self._writes_fail = True
                        self._say_not_written(error)
                    for _, written in part:
                        written.set_exception(error)
                else:
                    self._writes_fail = False
                    SPOOLED.inc(len(part))
                    for _, written in part:
                        written.set_result(None)
        self._writer = None

    def _say_not_written(self, error: OSError) -> None:
        metrics.FAILURES.labels("spool", "write").inc()
        now = time.monotonic()
        if now < self._silent_until:
            return
        self._silent_until = now + SILENT_SECONDS
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
