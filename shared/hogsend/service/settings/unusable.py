"""Placeholders for settings whose value cannot be used, so that validation reports them by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path


class Unusable(ABC):
    """Replaces the value of a setting; its text states the problem and what to write."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the problem, without any part of the value."""


@dataclass(frozen=True)
class Miscased(Unusable):
    """A variable whose name differs from that of a setting only in case."""

    written: str
    """The variable's name."""
    name: str
    """The setting's name."""

    def __str__(self) -> str:
        """Name the correct spelling."""
        return f"it is set as {self.written}, and only capitals are read; write {self.name}"


@dataclass(frozen=True)
class Unreadable(Unusable):
    """A secret file that cannot be read."""

    file: Path

    def __str__(self) -> str:
        """Name the file."""
        return f"{self.file} cannot be read; let this user read it, and let it be text in UTF-8"
