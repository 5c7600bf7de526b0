"""What stands in a setting's place when it was given in a way that cannot be used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path


class Unusable(ABC):
    """Its text says what is wrong, and what to write."""

    @abstractmethod
    def __str__(self) -> str:
        """Say so, without anything of a value."""


@dataclass(frozen=True)
class Miscased(Unusable):
    """A variable that differs from the setting's name in its case only."""

    written: str
    name: str

    def __str__(self) -> str:
        """Name the right one."""
        return f"it is set as {self.written}, and only capitals are read; write {self.name}"


@dataclass(frozen=True)
class Unreadable(Unusable):
    """A file with a secret that cannot be read."""

    file: Path

    def __str__(self) -> str:
        """Name the file."""
        return f"{self.file} cannot be read; let this user read it, and let it be text in UTF-8"
