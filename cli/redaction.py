"""Make text of other programs safe to print: no control characters, no secrets."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ERROR_CODE = re.compile(r"(?!ph[a-z]_)[a-z_]{1,40}")
"""Matches OAuth's registered errors, but neither PostHog's tokens nor random text."""


def printable(text: str) -> str:
    """Remove control characters, which move the cursor or change colours; keep newlines."""
    return _CONTROL.sub("", text)


def redact(text: str, *secrets: str) -> str:
    """Replace every secret in `text`, in case a server repeated one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[hidden]")
    return text


def error_code(text: object, *secrets: str) -> str:
    """Return an OAuth `error` value (RFC 6749, 5.2), or a placeholder for anything else."""
    if not isinstance(text, str) or not _ERROR_CODE.fullmatch(text):
        return "no readable error"
    return redact(text, *secrets)
