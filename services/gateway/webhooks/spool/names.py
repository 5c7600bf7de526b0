"""Names of the spool's files: the sequence by which they are ordered, and the salt of each."""

from __future__ import annotations

import re
from pathlib import Path

SUFFIX = ".spool"
UNNAMED = ".new"
"""Ends the name of a file that is being made."""

_NAME = re.compile(r"(\d{12})-([0-9a-f]{8})\.spool")


def name_of(sequence: int, salt: int) -> str:
    """Give a file's name."""
    return f"{sequence:012d}-{salt:08x}{SUFFIX}"


def is_name(name: str) -> bool:
    """Whether a file of the spool may have this name."""
    return _NAME.fullmatch(name) is not None


def salt_of(path: Path) -> int:
    """Give the random number in a file's name; 0 when it was renamed, so that nothing fits."""
    name = _NAME.fullmatch(path.name)
    return int(name[2], 16) if name else 0


def sequence_of(path: Path) -> int:
    """Give the number by which files are ordered."""
    name = _NAME.fullmatch(path.name)
    return int(name[1]) if name else 0
