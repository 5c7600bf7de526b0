"""Limits on JSON numbers with large exponents, and on the number of values in a message."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.json_numbers import MAX_DIGITS, decoder

decode: Callable[[bytes], Any] = decoder(Any)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_decoded_to_the_same_value_as_by_msgspec(number: float) -> None:
    for text in (repr(number), f"{number:e}", f"{number:E}", f"{number:f}"):
        assert decode(text.encode()) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    "text", [b"1e309", b"-1e309", b"1" * 400 + b".0", b"1.", b"1e", b".5", b"NaN"]
)
def test_a_number_that_msgspec_refuses_is_refused_with_the_same_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError) as expected:
        msgspec.json.decode(text)
    with pytest.raises(msgspec.DecodeError) as raised:
        decode(text)
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize("number", [b"1e308", b"-1.5E+300", b"1e-300", b"5e-324"])
def test_the_sum_of_the_exponents_in_a_message_is_limited(number: bytes) -> None:
    digits = abs(int(number.lower().partition(b"e")[2]))
    limit = MAX_DIGITS // digits
    for _ in range(2):
        # The limit applies to each message by itself.
        assert len(decode(b"[%b]" % b",".join([number] * limit))) == limit
    with pytest.raises(msgspec.ValidationError, match="too many numbers with large exponents"):
        decode(b"[%b]" % b",".join([number] * (limit + 1)))


def test_a_decoder_without_a_limit_accepts_any_number_of_large_exponents() -> None:
    body = b"[%b]" % b",".join([b"1e308"] * 10_000)
    assert decoder(list[Any], max_digits=math.inf)(body) == [1e308] * 10_000


@pytest.mark.parametrize("number", [b"0e308", b"1e-400", b"1.5", b"12345678901234567890123"])
def test_numbers_without_large_exponents_are_not_limited(number: bytes) -> None:
    values = decode(b"[%b]" % b",".join([number] * 10_000))
    assert len(values) == 10_000
    assert not any(math.isinf(value) for value in values)


@pytest.mark.parametrize("value", [b"[],", b"{},", b"[[[[]]]],"])
def test_a_message_of_millions_of_values_is_refused(value: bytes) -> None:
    body = b"[%b0]" % (value * (8_000_000 // len(value)))
    with pytest.raises(msgspec.ValidationError, match="too many values"):
        decoder(list[Any])(body)
