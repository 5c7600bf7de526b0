"""How much memory JSON takes once Python has decoded it.

A list of empty lists takes 36 times as much as its text: 8 MB of them are 290 MB. Of ordinary
documents it is about eight times as much.
"""

from __future__ import annotations

MAX_DECODED_BYTES = 128 * 1024 * 1024
"""What one message, or all requests in work of a process, may take: a quarter of what a service of
the deployment has. 8 MB of ordinary documents take half of it."""

_MOST_TIMES = 87
"""How much more than a text, in ASCII or not, it is taken for at most."""
_WIDEST_CHARACTER = 4
"""Bytes of each character in a text that has an emoji, escaped or not."""
_VALUE = 64
_OBJECT = 184
"""Bytes of one with a key, besides what each value takes."""


def decoded_bytes(body: bytes) -> int:
    """About how many bytes a decoded text takes, rather too many than too few.

    Each value but the first of a list or an object has a comma before it.
    """
    is_wide = not body.isascii() or b"\\u" in body
    characters = (_WIDEST_CHARACTER if is_wide else 1) * len(body)
    objects = body.count(b"{")
    values = body.count(b",") + body.count(b"[") + objects
    return characters + _VALUE * values + (_OBJECT - _VALUE) * objects


def has_too_many_values(body: bytes) -> bool:
    """Whether a text would take more than `MAX_DECODED_BYTES`."""
    if len(body) <= MAX_DECODED_BYTES // _MOST_TIMES:
        return False
    return decoded_bytes(body) > MAX_DECODED_BYTES
