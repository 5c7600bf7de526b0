"""Parses the errors that msgspec raises for JSON of another type than expected."""

from __future__ import annotations

import re

import msgspec

_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`$")


class Mismatch(msgspec.Struct, frozen=True):
    """The place where a value does not match its type, and the reason."""

    reason: str
    """The error in msgspec's words, without its path."""
    path: list[str]
    """Keys of the value, such as `["properties", "seats[0]"]`; empty for the whole document."""
    missing: str | None
    """Name of the missing field, if the error is a missing field."""

    @classmethod
    def of(cls, error: Exception) -> Mismatch:
        """Parse an error that msgspec raised."""
        reason = str(error)
        path: list[str] = []
        if at := _AT.search(reason):
            reason, path = reason[: at.start()], at[1].split(".")
        missing = _MISSING.search(reason)
        return cls(reason, path, missing[1] if missing else None)
