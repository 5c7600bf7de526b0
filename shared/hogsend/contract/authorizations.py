"""OAuth authorizations that an operator starts in the console.

The service `credentials` prepares the consent page and exchanges the authorization code. The
gateway only forwards the browser's parameters, and sees neither the PKCE verifier nor a token.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from hogsend.contract.base import Message
from hogsend.contract.credentials import CredentialMeta, ProviderRef
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]

RefusalCode = Literal[
    "oauth_unsupported",
    "discovery_failed",
    "consent_denied",
    "scopes_refused",
    "authorization_expired",
    "state_mismatch",
    "exchange_failed",
]
"""Why no credential was stored. Codes that the command line has as well have the same names."""


class AuthorizationRefusal(Message, frozen=True):
    """Why no credential was stored, and what to do."""

    code: RefusalCode
    detail: str
    remediation: str


class BeginAuthorization(ProviderRef, frozen=True):
    """Prepare the consent page for one browser."""

    private_host: str
    """PostHog's app host, as the operator or PostHog stated it. It never comes from a request."""
    client_id: str
    """URL of the OAuth client document."""
    redirect_uri: str
    """URL to which PostHog redirects the browser; the client document lists it."""
    browser_sha256: Digest
    """SHA-256 digest, in hex, of a cookie that only this browser has."""


class AuthorizationBegun(Message, frozen=True):
    """The consent page to open, or why there is none. Exactly one of both is set."""

    authorize_url: str | None = None
    expires_at: datetime | None = None
    """When the authorization expires if the operator does not decide."""
    refusal: AuthorizationRefusal | None = None

    def __repr__(self) -> str:
        """Hide the state, which is part of the URL."""
        return f"AuthorizationBegun(refusal={self.refusal!r})"


class FinishAuthorization(ProviderRef, frozen=True):
    """The parameters with which PostHog redirected the browser back."""

    state: str
    browser_sha256: Digest
    code: str | None = None
    error: str | None = None

    def __repr__(self) -> str:
        """Hide the state and the authorization code."""
        return "FinishAuthorization(...)"


class AuthorizationFinished(Message, frozen=True):
    """The stored credential, or why there is none. Exactly one of both is set."""

    credential: CredentialMeta | None = None
    refusal: AuthorizationRefusal | None = None


CREDENTIALS_AUTHORIZE = Endpoint(
    service=User.CREDENTIALS,
    verb="authorize",
    request=BeginAuthorization,
    reply=AuthorizationBegun,
    callers=(User.GATEWAY,),
    summary="Prepare PostHog's consent page for a browser of the console.",
    # Discovery of the OAuth server takes two requests, within 12 s.
    deadline=15.0,
    holds_secret=True,
    changes=True,
    resource="provider_id",
)
CREDENTIALS_FINISH_AUTHORIZATION = Endpoint(
    service=User.CREDENTIALS,
    verb="finish-authorization",
    request=FinishAuthorization,
    reply=AuthorizationFinished,
    callers=(User.GATEWAY,),
    summary="Exchange the authorization code that PostHog sent, and store the grant.",
    # The exchange may take 20 s.
    deadline=25.0,
    holds_secret=True,
    changes=True,
    resource="provider_id",
)
