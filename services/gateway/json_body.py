"""Decodes JSON request bodies: repairs what clients commonly get wrong, and explains refusals."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
from hogsend.contract.mismatch import Mismatch

REQUIRED = "Required"
"""Error message for a missing required field."""

TOO_DEEP = "nested too deeply"
"""Error message for a body nested deeper than services decode. It may be invalid JSON deeper in."""

T = TypeVar("T")

_decode = decoder(Any)


class MalformedBodyError(Exception):
    """The body is not JSON."""


class InvalidBodyError(Exception):
    """The body is JSON that does not match the expected type; `path` leads to the wrong value."""

    def __init__(self, problem: str, path: list[str] | None = None) -> None:
        super().__init__(problem)
        self.path = path or []


def decode_json(body: bytes, type: type[T]) -> T:
    """Decode a body. A byte order mark is removed, and lone surrogates are replaced.

    Raises:
        MalformedBodyError: the body is not JSON, or not UTF-8.
        InvalidBodyError: the body is JSON that does not match `type`.
    """
    body = repaired_json(body)
    if is_too_deep(body):
        raise InvalidBodyError(TOO_DEEP)
    try:
        decoded = _decode(body)
    except NOT_JSON as error:
        raise InvalidBodyError(why_not_decoded(body, error)) from None
    try:
        return msgspec.convert(decoded, type)
    except msgspec.ValidationError as error:
        raise _invalid(Mismatch.of(error)) from None


def why_not_decoded(body: bytes, error: Exception) -> str:
    """Return why msgspec could not decode a body that is valid JSON (correction C10).

    Raises:
        MalformedBodyError: the body is not JSON, or not UTF-8.
    """
    if isinstance(error, RecursionError):
        return TOO_DEEP
    try:
        # `parse_int` avoids Python's limit of 4300 digits, which also raises ValueError.
        json.loads(body.decode(), parse_constant=_no_constant, parse_int=len)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        raise MalformedBodyError from None
    # JSON's grammar has no largest number, so such a body is JSON although msgspec rejects it.
    return Mismatch.of(error).reason.removeprefix("JSON is malformed: ")


def _invalid(mismatch: Mismatch) -> InvalidBodyError:
    if mismatch.missing:
        return InvalidBodyError(REQUIRED, [*mismatch.path, mismatch.missing])
    return InvalidBodyError(mismatch.reason, mismatch.path)


def _no_constant(name: str) -> None:
    # Python accepts NaN and Infinity, which are not JSON.
    raise ValueError(name)
