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
from hogsend.posthog.answer_body import read_beginning
from hogsend.posthog.code_exchange import FORM_HEADERS, refused_with
from hogsend.posthog.exchange import Answer, follow
from hogsend.posthog.retry_after import retry_after_seconds
from hogsend.posthog.token_lifetime import token_lifetime
from hogsend.service.ssrf import AddressRefused

TIMEOUT_SECONDS = 10.0
"""Longest a refresh may take, connecting included."""
MAX_BODY_BYTES = 64 * 1024

_FOR_GOOD = frozenset({"invalid_grant", "invalid_client", "unauthorized_client"})
"""Codes after which only consent helps (RFC 6749, 5.2). PostHog answers `invalid_client` once the
application of the grant is deleted there; asking for consent makes it anew."""

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
    httpx.TooManyRedirects,
)
"""Errors after which no endpoint has used the refresh token."""
_UNAVAILABLE = 503


class RefreshFailed(Exception):
    """The token endpoint gave no usable answer. The message tells why and holds no token."""

    def __init__(
        self, reason: str, *, lost: bool = False, retry_after: float | None = None
    ) -> None:
        """Say why.

        Args:
            reason: the endpoint's code, or what came instead.
            lost: whether the endpoint may have refreshed all the same.
            retry_after: seconds the endpoint asks to wait before the next attempt.
        """
        super().__init__(reason)
        self.lost = lost
        self.retry_after = retry_after

    @property
    def needs_reconnect(self) -> bool:
        """Whether the refresh token or its client was refused: only connecting again will help."""
        return str(self) in _FOR_GOOD


class _Answer(msgspec.Struct, frozen=True):
    """A successful answer. A malformed optional field must not cost the token."""

    access_token: str
    expires_in: msgspec.Raw = msgspec.Raw(b"null")
    refresh_token: Any = None
    scope: Any = None
    scoped_teams: Any = None
    scoped_organizations: Any = None


class TokenEndpoint:
    """Exchanges a refresh token for a new grant."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Use `http`; the body is a secret, so only `hogsend.posthog.exchange` says where to."""
        self._http = http

    async def renew(self, grant: OAuthPayload, now: datetime) -> OAuthPayload:
        """Refresh once, at the endpoint stored with the grant.

        Fields that the answer leaves out, such as the refresh token, stay as they were.

        Raises:
            RefreshFailed: the endpoint refused, was unreachable or too slow, or answered nonsense.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._post(grant)
        except AddressRefused as error:
            raise RefreshFailed(str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            # The text of the error may quote the request, which holds the token.
            raise RefreshFailed(
                f"no answer ({type(error).__name__})", lost=not isinstance(error, _NOT_SENT)
            ) from None
        if not httpx.codes.is_success(answer.status):
            # A proxy may answer 500, 502 or 504 for a PostHog that has refreshed.
            lost = httpx.codes.is_server_error(answer.status) and answer.status != _UNAVAILABLE
            raise RefreshFailed(
                refused_with(answer.content, grant.refresh_token) or f"HTTP {answer.status}",
                lost=lost,
                retry_after=retry_after_seconds(answer.retry_after, datetime.now(UTC)),
            )
        return _renewed(grant, answer.content, now)

    async def _post(self, grant: OAuthPayload) -> Answer:
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
            # The status of an answer that is too large tells whether the refresh may be lost.
            reading=read_beginning,
        )


def _renewed(grant: OAuthPayload, body: bytes, now: datetime) -> OAuthPayload:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except NOT_JSON:
        raise RefreshFailed("an answer without access_token", lost=True) from None
    token = answer.access_token
    # One that no header carries would take the place of one that works, until it expires.
    if not (token and token.isascii() and token.isprintable()):
        raise RefreshFailed("an answer without access_token", lost=True)
    return msgspec.structs.replace(
        grant,
        access_token=token,
        refresh_token=_text(answer.refresh_token) or grant.refresh_token,
        expires_at=now + token_lifetime(answer.expires_in),
        scopes=scope.split() if (scope := _text(answer.scope)) else grant.scopes,
        scoped_teams=_list_of(int, answer.scoped_teams, grant.scoped_teams),
        scoped_organizations=_list_of(str, answer.scoped_organizations, grant.scoped_organizations),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _list_of(kind: type[Any], value: object, otherwise: list[Any]) -> list[Any]:
    if isinstance(value, list) and all(type(item) is kind for item in value):
        return value
    return otherwise
