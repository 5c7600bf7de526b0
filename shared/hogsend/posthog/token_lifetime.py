"""The lifetime of an access token: `expires_in` of a token endpoint (RFC 6749, 5.1)."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from hogsend.contract.json_text import NOT_JSON

DEFAULT_LIFETIME = timedelta(hours=1)
"""Lifetime of a token without `expires_in`, which RFC 6749 allows."""
MAX_LIFETIME = timedelta(days=365)
"""Upper limit of a lifetime."""


def token_lifetime(expires_in: msgspec.Raw | None) -> timedelta:
    """Decode `expires_in`, a number of seconds, which may be in a string.

    A malformed value counts as missing. It must not be an error, because the same response contains
    the only refresh token that still works. Zero or less means that the token has expired.
    """
    try:
        seconds = msgspec.json.decode(expires_in or b"null", type=float, strict=False)
    except NOT_JSON:
        return DEFAULT_LIFETIME
    if seconds != seconds:  # noqa: PLR0124 - not a number
        return DEFAULT_LIFETIME
    return timedelta(seconds=min(max(0.0, seconds), MAX_LIFETIME.total_seconds()))
