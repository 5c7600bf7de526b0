"""Notices that are not delivered yet, in one file beside the spool: they outlive the gateway."""

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

MOST = 200
"""Notices that wait at most; the oldest is given up for one more."""
NAME = "operator-notices.json"

WAITING = Gauge("hogsend_operator_notices_waiting", "Notices the operator's webhook has not taken")


class Waiting(msgspec.Struct):
    """A notice on its way."""

    id: UUID
    notice: Notice
    claimed: bool
    """Whether this gateway is the one that tells it; until then nothing is sent."""
    attempts: int = 0
    due_at: float = 0.0
    """Unix time of the next attempt."""


class _Content(msgspec.Struct):
    waiting: list[Waiting] = []
    told_here: list[str] = []
    """Problems of this gateway alone that were told and are not over."""


class Outbox:
    """The notices of the gateways that share one directory: one of them has it open at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME
        self._content = _Content()
        self._lock: int | None = None
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()

    def open(self) -> bool:
        """Take the file for this process and read it; False while another process has it.

        A directory that cannot be used is no reason to tell nothing: then it is kept in memory.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._say_not_kept(error)
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        except OSError as error:
            # Not every file system has locks.
            os.close(lock)
            self._say_not_kept(error)
            return True
        self._lock = lock
        try:
            self._content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            pass
        except (OSError, *NOT_JSON) as error:
            metrics.FAILURES.labels("notices", "unreadable").inc()
            log.warning("notices to the operator are lost", reason=str(error))
        WAITING.set(len(self._content.waiting))
        return True

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            with suppress(OSError):
                os.close(self._lock)
            self._lock = None

    @property
    def waiting(self) -> list[Waiting]:
        """What waits, oldest first."""
        return list(self._content.waiting)

    @property
    def told_here(self) -> set[str]:
        """Problems of this gateway alone that were told and are not over."""
        return set(self._content.told_here)

    async def add(self, waiting: Waiting, *, told_here: set[str] | None = None) -> None:
        """Keep a notice, and what it changes of `told_here`."""
        self._content.waiting.append(waiting)
        if told_here is not None:
            self._content.told_here = sorted(told_here)
        while len(self._content.waiting) > MOST:
            given_up = self._content.waiting.pop(0)
            metrics.FAILURES.labels("notices", "too_many").inc()
            log.warning(
                "a notice to the operator was dropped: too many are waiting", id=str(given_up.id)
            )
        await self.save()

    async def remove(self, waiting: Waiting) -> None:
        """Forget a notice."""
        if waiting in self._content.waiting:
            self._content.waiting.remove(waiting)
        await self.save()

    async def save(self) -> None:
        """Write everything down; a disk that fails is logged."""
        WAITING.set(len(self._content.waiting))
        self._changed.set()
        if self._lock is None:
            return
        async with self._saving:
            try:
                await asyncio.to_thread(_write, self._path, msgspec.json.encode(self._content))
            except OSError as error:
                self._say_not_kept(error)

    async def changed(self, within: float | None) -> None:
        """Wait until something changes, or for `within` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()

    def _say_not_kept(self, error: OSError) -> None:
        metrics.FAILURES.labels("notices", "not_kept").inc()
        log.warning("notices to the operator would not survive a restart", reason=str(error))


def _write(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
