"""Checks arguments of the client's methods; each error names the argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.json_text import MAX_DEPTH

T = TypeVar("T")


def checked_mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of a mapping, with all times in it passed through `sendable_time`.

    None becomes an empty mapping.

    Raises:
        InvalidRequest: it is not a mapping, or nested too deeply.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} are names with values (a dict), not {_type_name(value)}")
    copy = dict(value)
    _make_times_sendable(copy)
    return copy


def checked_list(name: str, value: Sequence[T]) -> list[T]:
    """Return a copy of a list. A string is refused, as it would count as a list of characters.

    Raises:
        InvalidRequest: it is not a list.
    """
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise InvalidRequest(f"{name} are a list, not {_type_name(value)}")
    return list(value)


def checked_text(name: str, value: str) -> str:
    """Return a string that can be encoded as UTF-8.

    Raises:
        InvalidRequest: it is not a string, or contains a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is text, not {_type_name(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} has half a character in it: {value!r}") from None
    return value


def sendable_time(value: Any) -> Any:
    """Convert a time whose offset has seconds to UTC. Any other value is returned unchanged.

    An offset in JSON has whole minutes (RFC 3339), so that the seconds would be lost. Historical
    time zones have such offsets.
    """
    offset = value.utcoffset() if isinstance(value, datetime) else None
    if not offset or not offset % timedelta(minutes=1):
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        # In UTC it lies outside of the years 1 to 9999, which no reader accepts.
        return value


def _make_times_sendable(copy: dict[str, Any]) -> None:
    """Convert times at any depth. Nested containers are copied, and their depth is limited."""
    pending: list[tuple[dict[Any, Any] | list[Any], int]] = [(copy, 1)]
    while pending:
        container, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"nested more than {MAX_DEPTH} deep")
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in items:
            if isinstance(value, datetime):
                container[key] = sendable_time(value)
            elif isinstance(value, (dict, list, tuple)):
                inner = dict(value) if isinstance(value, dict) else list(value)
                container[key] = inner
                pending.append((inner, depth + 1))


def _type_name(value: object) -> str:
    return type(value).__name__
