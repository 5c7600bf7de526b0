"""What msgspec's errors say of JSON that has another shape than was asked for."""

from __future__ import annotations

import re

import msgspec

_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`$")


class Mismatch(msgspec.Struct, frozen=True):
    """Where a value differs from its type, and how."""

    reason: str
    """What is wrong there, in msgspec's words."""
    path: list[str]
    """Keys that lead there, such as `["properties", "seats[0]"]`; none for the value as a whole."""
    missing: str | None
    """The field that is missing there, if that is what is wrong."""

    @classmethod
    def of(cls, error: Exception) -> Mismatch:
        """Read an error that msgspec raised."""
        reason = str(error)
        path: list[str] = []
        if at := _AT.search(reason):
            reason, path = reason[: at.start()], at[1].split(".")
        missing = _MISSING.search(reason)
        return cls(reason, path, missing[1] if missing else None)
