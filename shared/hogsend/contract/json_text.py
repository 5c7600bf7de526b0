"""JSON text that other languages write and Python cannot represent."""

from __future__ import annotations

import json
import re
from itertools import accumulate

import msgspec

_ESCAPES = re.compile(
    rb"\\\\"  # an escaped backslash: what follows is text
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding raises where text is not the JSON that was expected.

Text that is no UTF-8, and arrays in arrays by the thousand, are errors of Python, not of msgspec.
Decoding MessagePack raises the same.
"""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_DEPTH = 500
"""How deep arrays and objects may be nested in what comes from outside.

How deep Python reads depends on its version and on who calls; half of the least there is leaves
room for every service and subscriber behind.
"""

_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NEITHER_BRACKETS_NOR_QUOTES = bytes(
    byte for byte in range(256) if byte not in _STEPS and byte != ord('"')
)


def is_too_deep(body: bytes) -> bool:
    """Whether JSON is nested more than `MAX_DEPTH` deep; of other text it may say either."""
    # What is open is closed again, too: most are shorter than that, or have fewer brackets.
    if len(body) <= 2 * MAX_DEPTH or body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets_and_quotes = unescaped.translate(None, _NEITHER_BRACKETS_NOR_QUOTES)
    # Two quotes side by side change nothing about where texts are, and most quotes are such.
    outside_and_in_text = brackets_and_quotes.replace(b'""', b"").split(b'"')
    structure = b"".join(outside_and_in_text[::2])
    return max(accumulate(map(_STEPS.__getitem__, structure)), default=0) > MAX_DEPTH


def mended_json(body: bytes) -> bytes:
    """The same JSON, without what other languages write and Python cannot read.

    A byte order mark before it is dropped, as .NET and PowerShell write it; JSON allows to ignore
    it (RFC 8259, 8.1). Escaped halves of characters become U+FFFD: JavaScript may cut a text within
    an emoji and escape the half that is left. That is JSON, but no text of other languages can hold
    it (correction C8).
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    # Most have no escape at all. One byte is found in a tenth of the time of two.
    if b"\\" not in body or b"\\u" not in body or (b"\\ud" not in body and b"\\uD" not in body):
        return body
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)


def encode_json(message: msgspec.Struct) -> bytes:
    """JSON of a message, with halves of characters replaced by U+FFFD.

    Python's own `json` reads such halves out of what JavaScript wrote, and no text has a place for
    them (correction C8). Infinite numbers and those that are none become `null`, as in JavaScript.

    Raises:
        TypeError: something in it has no JSON; so say `ValueError` and msgspec's own errors.
    """
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, str_keys=True)
        # It escapes both halves of a whole character, too. Written again, as everything else is:
        # a number that JSON has no place for is `null`, here too.
        return msgspec.json.encode(json.loads(mended_json(json.dumps(plain).encode())))
