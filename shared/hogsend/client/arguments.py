"""Arguments of the client's methods: what cannot be meant is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.json_text import MAX_DEPTH

T = TypeVar("T")


def bag(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of names and their values, with times that can be sent; None is none of them.

    Raises:
        InvalidRequest: it is something else, or nested too deeply.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} are names with values (a dict), not {_kind(value)}")
    copy = dict(value)
    _make_times_sendable(copy)
    return copy


def several(name: str, value: Sequence[T]) -> list[T]:
    """A copy of a list. A text is none: it would be taken for its characters.

    Raises:
        InvalidRequest: it is something else.
    """
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise InvalidRequest(f"{name} are a list, not {_kind(value)}")
    return list(value)


def text(name: str, value: str) -> str:
    """A text that can be sent.

    Raises:
        InvalidRequest: it is something else, or has half a character in it.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is text, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} has half a character in it: {value!r}") from None
    return value


def moment(value: Any) -> Any:
    """A time that can be sent: in UTC if its offset has seconds. Anything else is left as it is.

    In JSON offsets are of whole minutes (RFC 3339), and the seconds would be cut off. Zones of
    long ago have some.
    """
    offset = value.utcoffset() if isinstance(value, datetime) else None
    if not offset or not offset % timedelta(minutes=1):
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        # Out of the range that readers take.
        return value


def _make_times_sendable(copy: dict[str, Any]) -> None:
    """Copy what is within, too, and nothing without an end."""
    left: list[tuple[dict[Any, Any] | list[Any], int]] = [(copy, 1)]
    while left:
        within, depth = left.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"nested more than {MAX_DEPTH} deep")
        for key, value in within.items() if isinstance(within, dict) else enumerate(within):
            if isinstance(value, datetime):
                within[key] = moment(value)
            elif isinstance(value, (dict, list, tuple)):
                inner = dict(value) if isinstance(value, dict) else list(value)
                within[key] = inner
                left.append((inner, depth + 1))


def _kind(value: object) -> str:
    return type(value).__name__
