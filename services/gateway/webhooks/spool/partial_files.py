"""Spool files whose creation a crash interrupted."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from services.gateway.webhooks.spool.names import PARTIAL_SUFFIX, SUFFIX, is_name


def remove_partial_files(directory: Path) -> None:
    """Remove files that never got their final name. No webhook is ever written to such a file.

    A file that another process is creating is locked, and is skipped.

    Raises:
        OSError: the directory cannot be read.
    """
    for path in directory.glob(f"*-*{PARTIAL_SUFFIX}"):
        if is_name(path.with_suffix(SUFFIX).name):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)
