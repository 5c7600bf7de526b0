"""Names of spool files: `<sequence>-<salt>.spool`.

Files are ordered by their sequence. The salt is a random number from which the checksums in the
file start.
"""

from __future__ import annotations

import re
from pathlib import Path

SUFFIX = ".spool"
PARTIAL_SUFFIX = ".new"
"""Suffix of a file that is still being created."""

_NAME = re.compile(r"(\d{12})-([0-9a-f]{8})\.spool")


def name_of(sequence: int, salt: int) -> str:
    """Return the name of the file with this sequence and salt."""
    return f"{sequence:012d}-{salt:08x}{SUFFIX}"


def is_name(name: str) -> bool:
    """Whether `name` has the form of a spool file's name."""
    return _NAME.fullmatch(name) is not None


def salt_of(path: Path) -> int:
    """Return the salt in a file's name.

    A renamed file has none: the result is 0, with which no checksum in the file matches.
    """
    match = _NAME.fullmatch(path.name)
    return int(match[2], 16) if match else 0


def sequence_of(path: Path) -> int:
    """Return the sequence in a file's name, or 0 for a renamed file."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0
