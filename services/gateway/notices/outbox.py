"""Notices that are not delivered yet, in a file in `SPOOL_DIR`, so that they survive a restart."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec
import structlog
from prometheus_client import Gauge

from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics
from services.gateway.notices.notice import Notice

log = structlog.get_logger(__name__)

MAX_PENDING = 200
"""Limit for pending notices. Beyond it the oldest one is dropped."""
NAME = "operator-notices.json"

WAITING = Gauge("hogsend_operator_notices_waiting", "Notices the operator's webhook has not taken")


class PendingNotice(msgspec.Struct):
    """A notice that is not delivered yet."""

    id: UUID
    notice: Notice
    claimed: bool
    """Whether this gateway's claim was granted. Only then the notice is sent."""
    attempts: int = 0
    due_at: float = 0.0
    """Unix time of the next attempt."""


class _Content(msgspec.Struct):
    """Content of the file."""

    pending: list[PendingNotice] = msgspec.field(default_factory=list, name="waiting")
    reported_here: list[str] = msgspec.field(default_factory=list, name="told_here")
    """Problems of this gateway alone that were reported and are not resolved."""


class Outbox:
    """The pending notices. Of gateways that share a directory, one has the file locked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME
        self._content = _Content()
        self._lock: int | None = None
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()

    def open(self) -> bool:
        """Lock and read the file. Return False if another process has locked it.

        If the directory cannot be used, notices are kept in memory only.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._log_not_stored(error)
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        except OSError as error:
            # Not every file system supports locks.
            os.close(lock)
            self._log_not_stored(error)
            return True
        self._lock = lock
        try:
            self._content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            pass
        except (OSError, *NOT_JSON) as error:
            metrics.FAILURES.labels("notices", "unreadable").inc()
            log.warning("notices to the operator are lost", reason=str(error))
        WAITING.set(len(self._content.pending))
        return True

    def close(self) -> None:
        """Release the lock, so that another process may open the file."""
        if self._lock is not None:
            with suppress(OSError):
                os.close(self._lock)
            self._lock = None

    @property
    def pending(self) -> list[PendingNotice]:
        """The pending notices, oldest first."""
        return list(self._content.pending)

    @property
    def reported_here(self) -> set[str]:
        """Problems of this gateway alone that were reported and are not resolved."""
        return set(self._content.reported_here)

    async def add(self, notice: PendingNotice, *, reported_here: set[str] | None = None) -> None:
        """Add a notice, replace `reported_here` if given, and save both at once."""
        self._content.pending.append(notice)
        if reported_here is not None:
            self._content.reported_here = sorted(reported_here)
        while len(self._content.pending) > MAX_PENDING:
            dropped = self._content.pending.pop(0)
            metrics.FAILURES.labels("notices", "too_many").inc()
            log.warning(
                "a notice to the operator was dropped: too many are waiting", id=str(dropped.id)
            )
        await self.save()

    async def remove(self, notice: PendingNotice) -> None:
        """Remove a notice that was delivered, abandoned, or claimed by another gateway."""
        if notice in self._content.pending:
            self._content.pending.remove(notice)
        await self.save()

    async def save(self) -> None:
        """Write the file. Disk errors are logged, not raised."""
        WAITING.set(len(self._content.pending))
        self._changed.set()
        if self._lock is None:
            return
        async with self._saving:
            try:
                await asyncio.to_thread(_write, self._path, msgspec.json.encode(self._content))
            except OSError as error:
                self._log_not_stored(error)

    async def wait_for_change(self, within: float | None) -> None:
        """Wait until the outbox changes, or for `within` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()

    def _log_not_stored(self, error: OSError) -> None:
        metrics.FAILURES.labels("notices", "not_kept").inc()
        log.warning("notices to the operator would not survive a restart", reason=str(error))


def _write(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
