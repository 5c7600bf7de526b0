"""The estimate of the memory that decoded JSON takes is never too low."""

from __future__ import annotations

import json
import sys
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.json_memory import (
    _MAX_RATIO,
    MAX_DECODED_BYTES,
    decoded_bytes,
    has_too_many_values,
)

TEXTS = st.text('aé\u0100😀"\\\n{}[]:,', max_size=6)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda values: st.one_of(
        st.lists(values, max_size=25), st.dictionaries(TEXTS, values, max_size=25)
    ),
    max_leaves=30,
)
"""Lists and objects of up to 25 values grow several times as they are decoded."""


def bytes_of(value: Any) -> int:
    """Sum the sizes of all parts of a document, as if no two were the same object."""
    size = sys.getsizeof(value)
    if isinstance(value, list):
        size += sum(map(bytes_of, value))
    elif isinstance(value, dict):
        size += sum(bytes_of(key) + bytes_of(item) for key, item in value.items())
    return size


@pytest.mark.parametrize("ascii_only", [True, False])
@given(DOCUMENTS)
def test_the_estimate_is_not_below_the_size_of_the_parts(ascii_only: bool, document: Any) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    assert bytes_of(msgspec.json.decode(body)) <= decoded_bytes(body)


REPEATED = [
    *(b"[[[[]]]]", b"[]", b"{}", b'{"a":1}', b'{"a":{"a":{}}}', b"1.5", b"-1000", b'"ab"'),
    *('"é"'.encode(), '"Ā"'.encode(), '"😀"'.encode()),
    pytest.param(json.dumps("😀" + "a" * 1000).encode(), id="escaped"),
    pytest.param(b"[" * 200 + b"]" * 200, id="nested lists"),
    pytest.param(b'{"":' * 200 + b"0" + b"}" * 200, id="nested objects"),
]


@pytest.mark.parametrize("value", REPEATED)
def test_the_estimate_is_not_below_the_memory_of_a_long_list(value: bytes) -> None:
    assert_estimate(b"[%b]" % b",".join([value] * (100_000 // len(value))))


@pytest.mark.parametrize("value", ["1", '"{}"', '"😀{}"', "{{}}", "[]", "1.5"])
@pytest.mark.parametrize("keys", [1, 2, 5, 6, 11, 22, 43, 86, 10_000])
def test_the_estimate_is_not_below_the_memory_of_objects_with_unique_keys(
    value: str, keys: int
) -> None:
    pairs = [f'"{number:x}":{value.format(number)}' for number in range(10_000)]
    objects = [f"{{{','.join(pairs[start : start + keys])}}}" for start in range(0, 10_000, keys)]
    assert_estimate(f"[{','.join(objects)}]".encode())


def assert_estimate(body: bytes) -> None:
    tracemalloc.start()
    decoded = msgspec.json.decode(body)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoded
    assert used <= decoded_bytes(body)


@pytest.mark.parametrize("value", REPEATED)
def test_a_text_so_short_that_it_is_not_estimated_is_within_the_limit(value: bytes) -> None:
    for pad in (b"", '"😀",'.encode()):
        body = b"[%b%b]" % (pad, b",".join([value] * (100_000 // len(value))))
        assert decoded_bytes(body) <= _MAX_RATIO * len(body)


@pytest.mark.parametrize(("bytes_each", "is_refused"), [(240, True), (260, False)])
def test_a_text_is_refused_from_the_limit_on(bytes_each: int, is_refused: bool) -> None:
    body = b"[%b{}]" % (b"{}," * (MAX_DECODED_BYTES // bytes_each))
    assert has_too_many_values(body) is is_refused
