"""JSON texts that other languages write and Python cannot hold."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    rb"\\\\"  # an escaped backslash: what follows is text
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def without_byte_order_mark(body: bytes) -> bytes:
    """Drop the mark that .NET and PowerShell write before UTF-8, as JavaScript's `json()` does.

    JSON allows to ignore it (RFC 8259, 8.1).
    """
    return body.removeprefix(_BYTE_ORDER_MARK)


def replace_lone_surrogates(body: bytes) -> bytes:
    """Replace escaped halves of characters by U+FFFD, which is otherwise the same JSON.

    JavaScript may cut a text within an emoji and escape the half that is left. That is JSON, but
    no text of other languages can hold it (correction C8).
    """
    # Most have no escape at all, and are looked through once.
    if b"\\u" not in body or (b"\\ud" not in body and b"\\uD" not in body):
        return body
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
