"""JSON text that other languages write and Python cannot represent."""

from __future__ import annotations

import json
import re

import msgspec

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


def encode_json(message: msgspec.Struct) -> bytes:
    """JSON of a message, with halves of characters replaced by U+FFFD.

    Python's own `json` reads such halves out of what JavaScript wrote, and no text has a place for
    them (correction C8).

    Raises:
        TypeError: something in it has no JSON; so say `ValueError` and msgspec's own errors.
    """
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, str_keys=True)
        # It escapes both halves of a whole character, too.
        return replace_lone_surrogates(json.dumps(plain, allow_nan=False).encode())
