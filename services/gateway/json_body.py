"""JSON bodies: what is repaired in them, and what is refused as not JSON."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
from hogsend.contract.mismatch import Mismatch

REQUIRED = "Required"
"""The problem of a body without a field that it must have."""

TOO_DEEP = "nested too deeply"
"""The problem of a body nested deeper than services decode; further in it may be no JSON."""

T = TypeVar("T")

_decode = decoder(Any)


class MalformedBodyError(Exception):
    """The body is not JSON."""


class InvalidBodyError(Exception):
    """The body is JSON of another shape; `path` leads to what is wrong in it."""

    def __init__(self, problem: str, path: list[str] | None = None) -> None:
        super().__init__(problem)
        self.path = path or []


def decode_json(body: bytes, type: type[T]) -> T:
    """Decode a body, without a byte order mark and with its lone surrogates replaced.

    Raises:
        MalformedBodyError: it is not JSON, or not UTF-8.
        InvalidBodyError: it is JSON that does not match `type`.
    """
    body = repaired_json(body)
    if is_too_deep(body):
        raise InvalidBodyError(TOO_DEEP)
    try:
        decoded = _decode(body)
    except NOT_JSON as error:
        raise InvalidBodyError(why_not_taken(body, error)) from None
    try:
        return msgspec.convert(decoded, type)
    except msgspec.ValidationError as error:
        raise _invalid(Mismatch.of(error)) from None


def why_not_taken(body: bytes, error: Exception) -> str:
    """Say why msgspec failed to decode a body though it is JSON (correction C10).

    Raises:
        MalformedBodyError: it is not JSON, or not UTF-8.
    """
    if isinstance(error, RecursionError):
        return TOO_DEEP
    try:
        # Python reads no integer of more than 4300 digits, and calls it wrong in the same way.
        json.loads(body.decode(), parse_constant=_no_constant, parse_int=len)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        raise MalformedBodyError from None
    # JSON's grammar knows no largest number.
    return Mismatch.of(error).reason.removeprefix("JSON is malformed: ")


def _invalid(mismatch: Mismatch) -> InvalidBodyError:
    if mismatch.missing:
        return InvalidBodyError(REQUIRED, [*mismatch.path, mismatch.missing])
    return InvalidBodyError(mismatch.reason, mismatch.path)


def _no_constant(name: str) -> None:
    # Python takes NaN and Infinity, which are not JSON.
    raise ValueError(name)
