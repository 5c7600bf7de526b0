"""Arguments of the client's methods: what cannot be meant is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hogsend.contract.errors import InvalidRequest

T = TypeVar("T")


def bag(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of names and their values; None is none of them.

    Raises:
        InvalidRequest: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} are names with values (a dict), not {_kind(value)}")
    return dict(value)


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


def _kind(value: object) -> str:
    return type(value).__name__
