"""OpenID Connect claims about the server's only user (posthog/api/oauth/claims.py).

Each claim requires a scope, as in `OAuth2Validator.oidc_claim_scope` of django-oauth-toolkit.
"""

from __future__ import annotations

from collections.abc import Collection

from sandbox.options import USER_ID

_CLAIMS: dict[str, tuple[str, str | bool]] = {
    "sub": ("openid", USER_ID),
    "given_name": ("profile", "Sandbox"),
    "family_name": ("profile", ""),
    "email": ("email", "sandbox@example.com"),
    "email_verified": ("email", True),
}
"""The required scope and the value of each claim, by name."""

CLAIMS = tuple(sorted(_CLAIMS))


def claims(scopes: Collection[str]) -> dict[str, str | bool]:
    """The claims about the user that `scopes` permit."""
    return {name: value for name, (scope, value) in _CLAIMS.items() if scope in scopes}
