"""PostgreSQL holds no NUL in text."""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\(?:u0000|.)", re.DOTALL)
_NUL = b"\\u0000"
_REPLACEMENT = b"\\ufffd"


def without_nul(body: bytes) -> bytes:
    """JSON with every NUL replaced. Raw ones are no JSON; only escaped ones get this far."""
    if _NUL not in body:
        return body
    return _ESCAPE.sub(
        lambda match: _REPLACEMENT if match[0] == _NUL else match[0],
        body,
    )
