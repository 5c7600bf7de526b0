"""Make text from other programs safe to print: without control characters and secrets."""

from __future__ import annotations

import json
import re

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]"
)
"""Characters that move the cursor, change colours, or reverse the direction of text."""
_NOT_ESCAPED = re.compile(r"[\x7f-\x9f]")
"""Control characters that some terminals obey and JSON need not escape (RFC 8259, 7)."""
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def printable(text: str) -> str:
    """Remove control characters and direction marks; keep newlines and tabs."""
    return _CONTROL.sub("", text)


def printable_json(document: str, encoding: str = "utf-8") -> str:
    """Escape the control characters that a JSON encoder may leave as they are.

    All non-ASCII characters are escaped too if `encoding` cannot represent one of them. The
    document keeps its meaning.
    """
    try:
        document.encode(encoding)
    except UnicodeEncodeError:
        document = _BEYOND_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], document)
    return _NOT_ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def redact(text: str, *secrets: str) -> str:
    """Replace every secret in `text`, in case a server's error quotes one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[hidden]")
    return text
