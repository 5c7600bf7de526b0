"""Where a backup lies open while it is restored: beside its target, for its owner's eyes only.

Not beside the backup, which may be on a medium that cannot be written to, or that others read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.backup.sealed import CONTENT
from cli.errors import CommandError
from hogsend.contract.streams import GIB


@contextmanager
def opened(work: Path, backup: Path) -> Iterator[None]:
    """Make a private directory with room for what is in a backup, and remove it at the end.

    Args:
        work: the directory; what an earlier run that was killed has left there is removed.
        backup: directory of the backup, which need not be one.

    Raises:
        CommandError: its disk has no room for it.
        OSError: it cannot be made.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700, parents=True)
    try:
        _require_room(work, backup / CONTENT)
        yield
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_room(work: Path, sealed: Path) -> None:
    # Sealing and opening leave the size as it is.
    needed = sealed.stat().st_size if sealed.is_file() else 0
    free = shutil.disk_usage(work).free
    if free < needed:
        raise CommandError(
            f"{work.parent} has {free / GIB:.1f} GiB left, and the backup takes "
            f"{needed / GIB:.1f} while it is restored",
            "make room for that, and for as much again that stays; or restore where there is room",
        )
