"""Error codes of PostHog's OAuth server, made safe to print."""

from __future__ import annotations

from cli.redaction import redact
from hogsend.posthog.code_exchange import oauth_error_code

NO_READABLE_ERROR = "no readable error"


def error_code(text: object, *secrets: str) -> str:
    """Return an OAuth `error` value (RFC 6749, 5.2), or a placeholder for anything else."""
    code = oauth_error_code(text)
    return NO_READABLE_ERROR if code is None else redact(code, *secrets)
