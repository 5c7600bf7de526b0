"""The spool: a bounded queue of webhooks in one SQLite file, for when JetStream is unavailable.

It is SQLite because the queue must be readable after a crash at any byte. Concurrent appends share
one transaction and one fsync; with `synchronous=FULL` they survive a power cut.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from prometheus_client import Counter, Gauge

from hogsend.contract.errors import CannotStart, SpoolFull
from services.gateway.webhooks.queued_webhook import QueuedWebhook

T = TypeVar("T")

SPOOLED = Counter("hogsend_spool_appended", "Webhooks written to the spool")
WAITING = Gauge("hogsend_spool_deliveries", "Webhooks waiting in the spool")
BYTES = Gauge("hogsend_spool_bytes", "Bytes of webhooks waiting in the spool")
SET_ASIDE = Gauge("hogsend_spool_set_aside", "Spooled webhooks that JetStream refuses permanently")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spool (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    size     INTEGER NOT NULL,
    delivery BLOB    NOT NULL,
    refused  TEXT
) STRICT
"""
_OVERHEAD_BYTES = 64
"""Approximate size of a row on disk besides its webhook."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(QueuedWebhook).decode


class Spooled(msgspec.Struct, frozen=True):
    """A webhook and its position in the spool."""

    position: int
    size: int
    webhook: QueuedWebhook


class Spool:
    """A queue on disk that holds at most `max_bytes`."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Open the queue in `directory`, which is created if missing, with its earlier content.

        Raises:
            CannotStart: another process uses the directory, or it is not writable.
        """
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._appending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._connection = self._thread.submit(_open, directory).result()
        self.count, self.bytes = self._thread.submit(self._measure).result()
        self._report()

    async def append(self, webhook: QueuedWebhook) -> None:
        """Write a webhook to disk; it is synced when this returns.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
        """
        row = _encode(webhook)
        size = len(row) + _OVERHEAD_BYTES
        if self.bytes + size > self._max_bytes:
            raise SpoolFull("the spool is full")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._appending.append((row, written))
        self.count += 1
        self.bytes += size
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        try:
            await asyncio.shield(written)
        except sqlite3.Error as error:
            self.count -= 1
            self.bytes -= size
            raise SpoolFull("the spool cannot be written") from error
        finally:
            self._report()

    async def head(self, limit: int) -> list[Spooled]:
        """Return the oldest webhooks, except those set aside."""
        rows = await self._run(lambda: self._read(limit))
        return [Spooled(position, size, _decode(row)) for position, size, row in rows]

    async def remove(self, items: Sequence[Spooled]) -> None:
        """Delete webhooks that JetStream has stored."""
        await self._run(lambda: self._delete(items))
        self._subtract(items)

    async def set_aside(self, item: Spooled, reason: str) -> None:
        """Exclude a webhook that JetStream refuses from `head`, until the next start."""
        await self._run(lambda: self._refuse(item, reason))
        SET_ASIDE.inc()
        self._subtract([item])

    async def close(self) -> None:
        """Finish pending writes and close the file."""
        if self._writer is not None:
            await self._writer
        await self._run(self._connection.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._appending:
            batch, self._appending = self._appending, []
            try:
                await self._run(partial(self._insert, [row for row, _ in batch]))
            except sqlite3.Error as error:
                for _, written in batch:
                    written.set_exception(error)
            else:
                SPOOLED.inc(len(batch))
                for _, written in batch:
                    written.set_result(None)
        self._writer = None

    def _insert(self, rows: list[bytes]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT INTO spool (size, delivery) VALUES (?, ?)",
                [(len(row) + _OVERHEAD_BYTES, row) for row in rows],
            )

    def _read(self, limit: int) -> list[tuple[int, int, bytes]]:
        return self._connection.execute(
            "SELECT position, size, delivery FROM spool "
            "WHERE refused IS NULL ORDER BY position LIMIT ?",
            (limit,),
        ).fetchall()

    def _delete(self, items: Sequence[Spooled]) -> None:
        with self._connection:
            self._connection.executemany(
                "DELETE FROM spool WHERE position = ?", [(item.position,) for item in items]
            )

    def _refuse(self, item: Spooled, reason: str) -> None:
        with self._connection:
            self._connection.execute(
                "UPDATE spool SET refused = ? WHERE position = ?", (reason, item.position)
            )

    def _measure(self) -> tuple[int, int]:
        with self._connection:
            self._connection.execute("UPDATE spool SET refused = NULL WHERE refused IS NOT NULL")
        count, size = self._connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM spool"
        ).fetchone()
        return count, size

    def _subtract(self, items: Sequence[Spooled]) -> None:
        self.count -= len(items)
        self.bytes -= sum(item.size for item in items)
        self._report()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _report(self) -> None:
        WAITING.set(self.count)
        BYTES.set(self.bytes)


def _open(directory: Path) -> sqlite3.Connection:
    path = directory / "webhooks.sqlite3"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        raise CannotStart(f"SPOOL_DIR {directory} cannot be written ({error.strerror})") from error
    connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        # Exclusive: a second gateway in this directory would publish the same webhooks again.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_SCHEMA)
        connection.commit()
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise CannotStart(
                f"{directory} is used by another gateway; give each one its own SPOOL_DIR"
            ) from None
        raise
    return connection
