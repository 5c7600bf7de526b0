"""JSON text that other languages write and Python cannot read, and limits on its depth."""

from __future__ import annotations

import json
import re
from itertools import accumulate

import msgspec

_ESCAPES = re.compile(
    rb"\\\\"  # an escaped backslash: the characters after it are no escape
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""The errors of decoding a text that is not the expected JSON.

Text that is not UTF-8 raises Python's `UnicodeError`, and thousands of nested arrays raise
`RecursionError`. Decoding MessagePack raises the same errors.
"""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_DEPTH = 500
"""Maximum depth of nested arrays and objects in JSON from outside.

Python's own limit depends on its version and on the depth of the call stack. This is half of the
smallest one, so that every service and subscriber can decode the message later.
"""

_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NEITHER_BRACKETS_NOR_QUOTES = bytes(
    byte for byte in range(256) if byte not in _STEPS and byte != ord('"')
)


def is_too_deep(body: bytes) -> bool:
    """Whether JSON is nested deeper than `MAX_DEPTH`. Undefined for text that is not JSON."""
    # Fast path: a deeper text has more opening brackets than that, and as many closing ones.
    if len(body) <= 2 * MAX_DEPTH or body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets_and_quotes = unescaped.translate(None, _NEITHER_BRACKETS_NOR_QUOTES)
    # Strings without brackets have become two adjacent quotes. Most are, and removing them is fast.
    outside_and_inside_strings = brackets_and_quotes.replace(b'""', b"").split(b'"')
    structure = b"".join(outside_and_inside_strings[::2])
    return max(accumulate(map(_STEPS.__getitem__, structure)), default=0) > MAX_DEPTH


def repaired_json(body: bytes) -> bytes:
    """The same JSON, without a byte order mark and without lone surrogates.

    .NET and PowerShell write a byte order mark; a reader may ignore it (RFC 8259, 8.1). JavaScript
    writes an escaped lone surrogate when it cuts a text within an emoji. That is valid JSON, but no
    UTF-8 text can contain it, so it becomes U+FFFD (correction C8).
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    # Most texts have no escape. Searching for one byte is ten times as fast as for two.
    if b"\\" not in body or b"\\u" not in body or (b"\\ud" not in body and b"\\uD" not in body):
        return body
    return _ESCAPES.sub(lambda match: rb"\ufffd" if match[1] else match[0], body)


def encode_json(message: msgspec.Struct) -> bytes:
    """Encode a message as JSON, with lone surrogates replaced by U+FFFD (correction C8).

    Python's own `json` decodes them from JavaScript's texts, and UTF-8 cannot encode them. Infinity
    and NaN become `null`, as in JavaScript.

    Raises:
        TypeError: a value has no JSON form. `ValueError` and msgspec's own errors mean the same.
    """
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, str_keys=True)
        # `json.dumps` escapes every surrogate. msgspec then encodes the repaired text, so that
        # infinity and NaN become `null` as above.
        return msgspec.json.encode(json.loads(repaired_json(json.dumps(plain).encode())))
