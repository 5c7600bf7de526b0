"""Complete reads, writes and syncs over the partial ones of the operating system.

All functions raise OSError when the disk fails.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def read_all(descriptor: int, max_bytes: int) -> bytes:
    """Read a file from its start, at most `max_bytes` of it."""
    parts, offset = [], 0
    while offset < max_bytes:
        part = os.pread(descriptor, min(1 << 20, max_bytes - offset), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that the file names in it survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
