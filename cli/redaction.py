"""Make text of other programs safe to print: no control characters, no secrets."""

from __future__ import annotations

import json
import re

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]"
)
"""What moves the cursor, changes colours, or turns the text around it."""
_NOT_ESCAPED = re.compile(r"[\x7f-\x9f]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
"""What some terminals obey, and JSON does not have to escape (RFC 8259, 7)."""


def printable(text: str) -> str:
    """Remove control characters and what changes the direction of text; keep newlines."""
    return _CONTROL.sub("", text)


def printable_json(document: str, encoding: str = "utf-8") -> str:
    """Escape the control characters of a JSON document that no encoder has to; means the same.

    So are all characters but those of ASCII, if there are any that `encoding` has no code for.
    """
    try:
        document.encode(encoding)
    except UnicodeEncodeError:
        document = _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], document)
    return _NOT_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def redact(text: str, *secrets: str) -> str:
    """Replace every secret in `text`, in case a server repeated one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[hidden]")
    return text
