"""Make text of other programs safe to print: no control characters, no secrets."""

from __future__ import annotations

import re

from hogsend.posthog.code_exchange import readable_code

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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
    code = readable_code(text)
    return "no readable error" if code is None else redact(code, *secrets)
