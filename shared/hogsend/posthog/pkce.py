"""PKCE and state, which bind PostHog's redirect to the authorization that started it (RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from hogsend.posthog.scopes import SCOPES

VERIFIER_BYTES = 32
STATE_BYTES = 16


@dataclass(frozen=True)
class PkceSession:
    """The verifier and state of one authorization; its `repr` hides both."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(VERIFIER_BYTES), repr=False)
    state: str = field(default_factory=lambda: secrets.token_urlsafe(STATE_BYTES), repr=False)

    @property
    def challenge(self) -> str:
        """The verifier's S256 challenge."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def authorize_url(endpoint: str, *, client_id: str, redirect_uri: str, session: PkceSession) -> str:
    """Build the URL of the consent page (contract 3.3).

    Parameters that `endpoint` already has are kept.
    """
    parts = urlsplit(endpoint)
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(SCOPES),
        "state": session.state,
        "code_challenge": session.challenge,
        "code_challenge_method": "S256",
        "required_access_level": "team",
    }
    existing = [pair for pair in parse_qsl(parts.query, True) if pair[0] not in parameters]  # noqa: FBT003
    query = urlencode([*existing, *parameters.items()], quote_via=quote)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
