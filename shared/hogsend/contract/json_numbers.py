"""Limits JSON numbers with large exponents, which take much more space and time than their text.

`1e308` has five characters. PostgreSQL's `jsonb` returns it as 309 digits, and msgspec takes ten
microseconds to parse it, three hundred times as long as an ordinary number. Every visitor of a
website can make PostHog deliver an event full of such numbers: the project key is in its pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import msgspec

from hogsend.contract.json_memory import has_too_many_values

MAX_DIGITS = 1024 * 1024
"""Maximum sum of all exponents in one message, far more than any service needs."""

TOO_LARGE = "too many numbers with large exponents"
TOO_MANY = "too many values for the memory that one message may take"
_OUT_OF_RANGE = "Number out of range"

T = TypeVar("T")


class TooManyValues(msgspec.ValidationError):
    """The message would take more memory than `json_memory.MAX_DECODED_BYTES` when decoded."""


class _Floats:
    """Parses the floats of one message after another, and limits their exponents."""

    def __init__(self, max_digits: float) -> None:
        self._max = self._remaining = max_digits

    def start_message(self) -> None:
        """Reset the limit for another message."""
        self._remaining = self._max

    def read(self, text: str) -> float:
        """Parse a float. For large exponents this is much faster than msgspec's own parser.

        Raises:
            ValueError: the number is too large, or the exponents of the message exceed the limit.
        """
        value = float(text)
        if math.isinf(value):
            raise ValueError(_OUT_OF_RANGE)
        marker = "e" if "e" in text else "E" if "E" in text else ""
        if marker and value:
            self._remaining -= abs(int(text.partition(marker)[2]))
            if self._remaining < 0:
                raise ValueError(TOO_LARGE)
        return value


def decoder(kind: type[T], max_digits: float = MAX_DIGITS) -> Callable[[bytes], T]:
    """Make a decoder for JSON from outside, with limits on its numbers and on its size in memory.

    The decoder raises the errors of `msgspec.json.decode`. It raises `msgspec.ValidationError` for
    numbers whose exponents add up to more than `max_digits`, and `TooManyValues` for a message that
    would take more memory than `json_memory.MAX_DECODED_BYTES`.
    """
    floats = _Floats(max_digits)
    decode = msgspec.json.Decoder(kind, float_hook=floats.read).decode

    def decode_one(body: bytes) -> T:
        if has_too_many_values(body):
            raise TooManyValues(TOO_MANY)
        floats.start_message()
        return decode(body)

    return decode_one
