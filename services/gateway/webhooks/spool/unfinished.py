"""What a crash left of a file of the spool that was being made."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from services.gateway.webhooks.spool.names import SUFFIX, UNNAMED, is_name


def remove_unfinished(directory: Path) -> None:
    """Remove files that a crash left before they had their name; nothing is in them.

    Raises:
        OSError: the directory cannot be read.
    """
    for path in directory.glob(f"*-*{UNNAMED}"):
        if is_name(path.with_suffix(SUFFIX).name):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)
