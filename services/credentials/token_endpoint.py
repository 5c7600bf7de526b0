"""The refresh request to PostHog's token endpoint (contract 3.5, RFC 6749 section 6)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec

from hogsend.contract.credentials import OAuthPayload
from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.code_exchange import FORM_HEADERS, refusal_code
from hogsend.posthog.exchange import Response, follow
from hogsend.posthog.response_body import read_prefix
from hogsend.posthog.retry_after import retry_after_seconds
from hogsend.posthog.token_lifetime import token_lifetime
from hogsend.service.ssrf import AddressRefused

TIMEOUT_SECONDS = 10.0
"""Time limit of a refresh request, including the connection."""
MAX_BODY_BYTES = 64 * 1024

_NEEDS_CONSENT = frozenset({"invalid_grant", "invalid_client", "unauthorized_client"})
"""Error codes after which only new consent helps (RFC 6749, 5.2). PostHog returns `invalid_client`
once the grant's application is deleted there; consent creates the application again."""

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
    httpx.TooManyRedirects,
)
"""Errors after which the refresh token certainly was not used."""
_UNAVAILABLE = 503


class RefreshFailed(Exception):
    """The token endpoint sent no usable response. The message has the reason and never a token."""

    def __init__(
        self, reason: str, *, response_lost: bool = False, retry_after: float | None = None
    ) -> None:
        """Describe the failure.

        Args:
            reason: the OAuth error code, or a description of the failure.
            response_lost: whether the endpoint may have refreshed the grant nevertheless.
            retry_after: seconds that the endpoint asks to wait before the next attempt.
        """
        super().__init__(reason)
        self.response_lost = response_lost
        self.retry_after = retry_after

    @property
    def needs_reconnect(self) -> bool:
        """Whether the refresh token or its client was refused: only connecting again will help."""
        return str(self) in _NEEDS_CONSENT


class _TokenResponse(msgspec.Struct, frozen=True):
    """A successful response (RFC 6749, 5.1).

    Optional fields have lenient types: a malformed one must not lose the rotated token.
    """

    access_token: str
    expires_in: msgspec.Raw = msgspec.Raw(b"null")
    refresh_token: Any = None
    scope: Any = None
    scoped_teams: Any = None
    scoped_organizations: Any = None

    def __repr__(self) -> str:
        """Hide the tokens."""
        return "_TokenResponse(...)"


class TokenEndpoint:
    """Exchanges a refresh token for a new grant."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Send requests with `http`.

        The body is a secret, so redirects are followed only as `hogsend.posthog.exchange` allows.
        """
        self._http = http

    async def renew(self, grant: OAuthPayload, now: datetime) -> OAuthPayload:
        """Refresh once, at the endpoint stored with the grant.

        Fields that are missing in the response, such as the refresh token, keep their values.

        Raises:
            RefreshFailed: the endpoint refused, was unreachable or too slow, or its response is
                malformed.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._post(grant)
        except AddressRefused as error:
            raise RefreshFailed(str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            # Not the error's message, which may quote the request and so the token.
            raise RefreshFailed(
                f"no answer ({type(error).__name__})",
                response_lost=not isinstance(error, _NOT_SENT),
            ) from None
        if not httpx.codes.is_success(response.status):
            # A proxy may return 500, 502 or 504 although PostHog has refreshed the grant.
            response_lost = (
                httpx.codes.is_server_error(response.status) and response.status != _UNAVAILABLE
            )
            raise RefreshFailed(
                refusal_code(response.content, grant.refresh_token) or f"HTTP {response.status}",
                response_lost=response_lost,
                retry_after=retry_after_seconds(response.retry_after, datetime.now(UTC)),
            )
        return _renewed_grant(grant, response.content, now)

    async def _post(self, grant: OAuthPayload) -> Response:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": grant.refresh_token,
            "client_id": grant.client_id,
        }
        return await follow(
            self._http,
            "POST",
            grant.token_endpoint,
            headers=FORM_HEADERS,
            content=urlencode(form).encode(),
            max_bytes=MAX_BODY_BYTES,
            # A body that is too large is truncated, not refused: the status is needed to decide
            # whether the grant may have been refreshed.
            read_body=read_prefix,
        )


def _renewed_grant(grant: OAuthPayload, body: bytes, now: datetime) -> OAuthPayload:
    try:
        response = msgspec.json.decode(body, type=_TokenResponse)
    except NOT_JSON:
        raise RefreshFailed("an answer without access_token", response_lost=True) from None
    token = response.access_token
    # A token that cannot be sent in a header must not replace the working one.
    if not (token and token.isascii() and token.isprintable()):
        raise RefreshFailed("an answer without access_token", response_lost=True)
    organizations = response.scoped_organizations
    return msgspec.structs.replace(
        grant,
        access_token=token,
        refresh_token=_non_empty(response.refresh_token) or grant.refresh_token,
        expires_at=now + token_lifetime(response.expires_in),
        scopes=scope.split() if (scope := _non_empty(response.scope)) else grant.scopes,
        scoped_teams=_list_of(int, response.scoped_teams, grant.scoped_teams),
        scoped_organizations=_list_of(str, organizations, grant.scoped_organizations),
    )


def _non_empty(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _list_of(kind: type[Any], value: object, default: list[Any]) -> list[Any]:
    if isinstance(value, list) and all(type(item) is kind for item in value):
        return value
    return default
