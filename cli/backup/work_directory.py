"""The private directory that a backup is decrypted into while it is restored.

It is next to the target and not next to the backup, which may be on a read-only or shared disk.
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
def work_directory(work: Path, backup: Path) -> Iterator[None]:
    """Create a private directory on a disk with space for the backup; remove it at the end.

    Args:
        work: the directory. Leftovers of an earlier run that was killed are removed.
        backup: directory of the backup; whether it is one is checked later.

    Raises:
        CommandError: the disk has too little free space.
        OSError: the directory cannot be created.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700, parents=True)
    try:
        _require_space(work, backup / CONTENT)
        yield
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_space(work: Path, sealed: Path) -> None:
    # Encryption hardly changes the size.
    needed = sealed.stat().st_size if sealed.is_file() else 0
    free = shutil.disk_usage(work).free
    if free < needed:
        raise CommandError(
            f"{work.parent} has {free / GIB:.1f} GiB of free space, and the backup takes "
            f"{needed / GIB:.1f} GiB while it is restored",
            "free twice that space, since the restored data take as much again; or restore on a "
            "larger disk",
        )
