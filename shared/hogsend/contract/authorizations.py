"""Authorizations: consent that is asked for in the console, and exchanged by credentials.

The gateway passes on what the browser brings, and sees neither the verifier nor a token.
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
"""Why nothing was connected; where the command line has the same verdict, it has the same name."""


class AuthorizationRefusal(Message, frozen=True):
    """Why nothing was connected, and what to do."""

    code: RefusalCode
    detail: str
    remediation: str


class BeginAuthorization(ProviderRef, frozen=True):
    """Prepare the consent page for one browser."""

    private_host: str
    """PostHog's app host: one that the operator or PostHog named, never one from a request."""
    client_id: str
    """Address of the client document."""
    redirect_uri: str
    """Where the browser comes back to; the client document lists it."""
    browser_sha256: Digest
    """Digest of a cookie that only this browser has."""


class AuthorizationBegun(Message, frozen=True):
    """The consent page to open, or why there is none; exactly one of both is set."""

    authorize_url: str | None = None
    expires_at: datetime | None = None
    """Until when the answer is waited for."""
    refusal: AuthorizationRefusal | None = None

    def __repr__(self) -> str:
        """Show no state."""
        return f"AuthorizationBegun(refusal={self.refusal!r})"


class FinishAuthorization(ProviderRef, frozen=True):
    """What PostHog sent the browser back with."""

    state: str
    browser_sha256: Digest
    code: str | None = None
    error: str | None = None

    def __repr__(self) -> str:
        """Show neither state nor code."""
        return "FinishAuthorization(...)"


class AuthorizationFinished(Message, frozen=True):
    """The stored credential, or why there is none; exactly one of both is set."""

    credential: CredentialMeta | None = None
    refusal: AuthorizationRefusal | None = None


CREDENTIALS_AUTHORIZE = Endpoint(
    service=User.CREDENTIALS,
    verb="authorize",
    request=BeginAuthorization,
    reply=AuthorizationBegun,
    callers=(User.GATEWAY,),
    summary="Prepare PostHog's consent page for a browser of the console.",
    # Two requests to find the OAuth server, within 12 s.
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
    summary="Exchange the code a browser came back with, and store the grant.",
    # The exchange may take 20 s.
    deadline=25.0,
    holds_secret=True,
    changes=True,
    resource="provider_id",
)
