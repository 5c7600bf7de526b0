"""Estimates the memory of decoded JSON, to refuse messages that would exhaust a service's memory.

A list of empty lists takes 36 times the size of its text in Python: 8 MB become 290 MB. Ordinary
documents take about eight times their size.
"""

from __future__ import annotations

MAX_DECODED_BYTES = 128 * 1024 * 1024
"""Maximum memory of one decoded message, and of all concurrent requests of a process, in bytes.

A quarter of the memory limit of a deployed service. 8 MB of ordinary documents take half of it.
"""

_MAX_RATIO = 87
"""Maximum ratio of the estimate to the size of the text."""
_WIDEST_CHARACTER = 4
"""Bytes of every character of a Python string that contains an emoji."""
_VALUE = 64
"""Bytes of one value."""
_OBJECT = 184
"""Bytes of an object with one key, without those of its value."""


def decoded_bytes(body: bytes) -> int:
    """Estimate the bytes of memory that a JSON text takes when decoded, rather too high.

    Values are counted by the commas before them; the first value of a list or an object has none.
    """
    is_wide = not body.isascii() or b"\\u" in body
    characters = (_WIDEST_CHARACTER if is_wide else 1) * len(body)
    objects = body.count(b"{")
    values = body.count(b",") + body.count(b"[") + objects
    return characters + _VALUE * values + (_OBJECT - _VALUE) * objects


def has_too_many_values(body: bytes) -> bool:
    """Whether a JSON text would take more memory than `MAX_DECODED_BYTES` when decoded."""
    if len(body) <= MAX_DECODED_BYTES // _MAX_RATIO:
        return False
    return decoded_bytes(body) > MAX_DECODED_BYTES
