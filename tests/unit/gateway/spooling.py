"""Webhooks and files for tests of the spool."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path

from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.set_aside import DAMAGED
from services.gateway.webhooks.spool.spool import Spool

BIG = 1 << 30
MIB = 1 << 20


def webhook(number: int, size: int = 10) -> QueuedWebhook:
    return QueuedWebhook(
        f"id-{number}", "hogsend.webhooks.posthog", {"n": str(number)}, b"x" * size
    )


async def ids(spool: Spool, limit: int = 10_000) -> list[str]:
    return [item.webhook.id for item in await spool.head(limit, BIG)]


async def filled(directory: Path, count: int, size: int = 10) -> Path:
    """Spool `count` webhooks in a directory, and return the path of their file."""
    spool = Spool(directory, BIG)
    await asyncio.gather(*(spool.append(webhook(number, size)) for number in range(count)))
    await spool.close()
    return only_file(directory)


def files(directory: Path) -> list[Path]:
    return list(directory.glob("*.spool"))


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def only_file(directory: Path) -> Path:
    (file,) = files(directory)
    return file


def full(*_arguments: object, **_named: object) -> None:
    """Raise the error that every write raises on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def unreadable(*_arguments: object) -> bytes:
    """Raise the error that reads raise on a defective disk."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def open_files(directory: Path) -> list[str]:
    """Return the files of a directory that this process has open, once for each descriptor."""
    opened = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            opened.append(str(descriptor.readlink()))
    return sorted(path for path in opened if path.startswith(str(directory)))


async def drained(spool: Spool) -> list[str]:
    """Remove all webhooks as if they were published, and return their ids."""
    published = []
    while spool.count:
        items = await spool.head(256)
        published += [item.webhook.id for item in items]
        await spool.remove(items)
    return published


def set_aside(spool: Spool) -> int:
    """Return the number of refused webhooks and of damaged files."""
    return spool.refused_count + spool.files_aside


def damaged_places() -> float:
    return DAMAGED._value.get()
