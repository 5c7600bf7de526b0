"""Keeping what other programs say fit to print."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ERROR_CODE = re.compile(r"(?!ph[a-z]_)[a-z_]{1,40}")
"""What OAuth's registered errors look like, and neither PostHog's tokens nor anything random."""


def printable(text: str) -> str:
    """`text` without what moves a terminal's cursor or changes its colours; keeps newlines."""
    return _CONTROL.sub("", text)


def without(text: str, *secrets: str) -> str:
    """`text` with every secret in it covered, should a server have repeated one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[hidden]")
    return text


def error_code(text: object, *secrets: str) -> str:
    """An OAuth `error` value (RFC 6749, 5.2) if that is what it is, else a word for it."""
    if not isinstance(text, str) or not _ERROR_CODE.fullmatch(text):
        return "no readable error"
    return without(text, *secrets)
