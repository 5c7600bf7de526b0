"""PostgreSQL stores no NUL character in text or JSON, so each becomes U+FFFD."""

from __future__ import annotations

import re
from typing import overload

_ESCAPE = re.compile(rb"\\(?:u0000|.)", re.DOTALL)
_NUL = b"\\u0000"
_REPLACEMENT = b"\\ufffd"


def json_without_nul(body: bytes) -> bytes:
    """JSON with every escaped NUL replaced; a raw NUL is not valid JSON."""
    if _NUL not in body:
        return body
    return _ESCAPE.sub(
        lambda match: _REPLACEMENT if match[0] == _NUL else match[0],
        body,
    )


@overload
def text_without_nul(text: str) -> str: ...
@overload
def text_without_nul(text: None) -> None: ...
@overload
def text_without_nul(text: str | None) -> str | None: ...
def text_without_nul(text: str | None) -> str | None:
    """Text as it is stored, to store it or to compare it with what is stored."""
    return None if text is None else text.replace("\0", "\ufffd")
