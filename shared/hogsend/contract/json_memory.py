"""Estimates the memory of decoded JSON, to refuse messages that would exhaust a service's memory.

Nested lists take 44 times the size of their text in Python: 8 MB become 350 MB. Ordinary documents
take about seven times their size.
"""

from __future__ import annotations

MAX_DECODED_BYTES = 128 * 1024 * 1024
"""Maximum memory of one decoded message, and of all concurrent requests of a process, in bytes.

A quarter of the memory limit of a deployed service. The estimate of 8 MB of ordinary documents is
below it.
"""

_MAX_RATIO = 91
"""Maximum ratio of the estimate to the size of the text."""

_WIDEST_CHARACTER = 4
"""Bytes of every character of a Python string that contains an emoji."""
_STRING, _WIDE_STRING = 48, 64
"""Bytes of a string, and of one that is not ASCII, without its characters, quotes, and the comma or
colon after it. A number takes less."""
_LIST, _OBJECT = 88, 184
"""Bytes of a list with space for four items, and of an object with space for five keys."""
_FURTHER_ITEM, _FURTHER_KEY = 12, 44
"""Bytes of a further item in a list and of a further key in an object, at the length at which most
of the space is unused."""


def decoded_bytes(body: bytes) -> int:
    """Return the bytes of memory that a JSON text takes at most when it is decoded.

    Values are counted by the commas before them; the first value of a list or an object has none.
    Keys are counted by the colons after them, as if all were different: msgspec decodes most
    repeated keys to the same string.
    """
    is_wide = not body.isascii() or b"\\u" in body
    commas, colons = body.count(b","), body.count(b":")
    lists, objects = body.count(b"["), body.count(b"{")
    # At most as many strings and numbers as keys, commas and one: the first value of a list or an
    # object has no comma before it, but the list or object is no string itself.
    strings = 1 + commas + colons
    return (
        (_WIDEST_CHARACTER if is_wide else 1) * len(body)
        + (_WIDE_STRING if is_wide else _STRING) * strings
        + _LIST * lists
        + _OBJECT * objects
        + _FURTHER_ITEM * commas
        + _FURTHER_KEY * max(0, colons - objects)
    )


def has_too_many_values(body: bytes) -> bool:
    """Whether a JSON text would take more memory than `MAX_DECODED_BYTES` when decoded."""
    if len(body) <= MAX_DECODED_BYTES // _MAX_RATIO:
        return False
    return decoded_bytes(body) > MAX_DECODED_BYTES
