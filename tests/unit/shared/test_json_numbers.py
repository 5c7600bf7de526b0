"""Numbers that take little room in JSON and much elsewhere are taken up to a bound."""

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
def test_a_number_is_what_msgspec_makes_of_it(number: float) -> None:
    for text in (repr(number), f"{number:e}", f"{number:E}", f"{number:f}"):
        assert decode(text.encode()) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    "text", [b"1e309", b"-1e309", b"1" * 400 + b".0", b"1.", b"1e", b".5", b"NaN"]
)
def test_what_msgspec_does_not_take_is_not_taken_for_the_same_reason(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError) as theirs:
        msgspec.json.decode(text)
    with pytest.raises(msgspec.DecodeError) as ours:
        decode(text)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("number", [b"1e308", b"-1.5E+300", b"1e-300", b"5e-324"])
def test_numbers_that_postgresql_would_write_out_at_length_are_bounded(number: bytes) -> None:
    digits = abs(int(number.lower().partition(b"e")[2]))
    most = MAX_DIGITS // digits
    for _ in range(2):
        # Each message has a bound of its own.
        assert len(decode(b"[%b]" % b",".join([number] * most))) == most
    with pytest.raises(msgspec.ValidationError, match="too many numbers with large exponents"):
        decode(b"[%b]" % b",".join([number] * (most + 1)))


def test_a_request_may_hold_what_many_messages_were() -> None:
    many = b"[%b]" % b",".join([b"1e308"] * 10_000)
    assert decoder(list[Any], max_digits=math.inf)(many) == [1e308] * 10_000


@pytest.mark.parametrize("number", [b"0e308", b"1e-400", b"1.5", b"12345678901234567890123"])
def test_other_numbers_are_not(number: bytes) -> None:
    found = decode(b"[%b]" % b",".join([number] * 10_000))
    assert len(found) == 10_000
    assert not any(math.isinf(one) for one in found)


@pytest.mark.parametrize("value", [b"[],", b"{},", b"[[[[]]]],"])
def test_a_message_of_millions_of_values_is_not_decoded(value: bytes) -> None:
    many = b"[%b0]" % (value * (8_000_000 // len(value)))
    with pytest.raises(msgspec.ValidationError, match="too many values"):
        decoder(list[Any])(many)
