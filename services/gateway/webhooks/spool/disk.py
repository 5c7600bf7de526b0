"""Calls of the operating system that a file of the spool needs whole. All raise OSError."""

from __future__ import annotations

import os
from pathlib import Path


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` from a place on."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def read_all(descriptor: int, most: int) -> bytes:
    """Read a file from its beginning, `most` bytes of it."""
    parts, offset = [], 0
    while offset < most:
        part = os.pread(descriptor, min(1 << 20, most - offset), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
