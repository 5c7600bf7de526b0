"""How long an access token lives: `expires_in` of a token endpoint (RFC 6749, 5.1)."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from hogsend.contract.json_text import NOT_JSON

DEFAULT_LIFETIME = timedelta(hours=1)
"""Assumed when the endpoint does not say, which RFC 6749 allows."""
MAX_LIFETIME = timedelta(days=365)
"""The longest that is believed."""


def token_lifetime(expires_in: msgspec.Raw | None) -> timedelta:
    """Read `expires_in`, in seconds; a number in a string is a number.

    Nonsense is taken as absent, never as a failure: the answer that carries it holds the only
    refresh token that still works. Zero and less is a token that has ended.
    """
    try:
        seconds = msgspec.json.decode(expires_in or b"null", type=float, strict=False)
    except NOT_JSON:
        return DEFAULT_LIFETIME
    if seconds != seconds:  # noqa: PLR0124 - not a number
        return DEFAULT_LIFETIME
    return timedelta(seconds=min(max(0.0, seconds), MAX_LIFETIME.total_seconds()))
