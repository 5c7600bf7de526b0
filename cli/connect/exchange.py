"""Exchange of an authorization code for tokens (RFC 6749, 4.1.3; contract 3.4)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlencode

import httpx

from cli.admin.messages import Grant
from cli.connect.oauth_errors import NO_READABLE_ERROR
from cli.connect.results import ConnectError, Verdict
from cli.http_failure import failure_reason
from hogsend.posthog.code_exchange import (
    FORM_HEADERS,
    UnusableResponse,
    code_form,
    read_tokens,
    refusal_code,
)
from hogsend.posthog.exchange import follow
from hogsend.posthog.pkce import PkceSession
from hogsend.posthog.response_body import ACCEPTED, ResponseTooLarge
from hogsend.urls import is_loopback

EXCHANGE_SECONDS = 20.0
MAX_BYTES = 64 * 1024


async def exchange(
    code: str, session: PkceSession, *, token_endpoint: str, redirect_uri: str, client_id: str
) -> Grant:
    """Exchange an authorization code for a grant.

    Raises:
        ConnectError: `exchange_failed`. Its text has neither the code, the verifier nor a token.
    """
    form = code_form(code, session.verifier, redirect_uri=redirect_uri, client_id=client_id)
    try:
        async with (
            # For the whole response: httpx's own timeout applies to each read.
            asyncio.timeout(EXCHANGE_SECONDS),
            httpx.AsyncClient(timeout=None, trust_env=not is_loopback(token_endpoint)) as http,  # noqa: S113
        ):
            response = await follow(
                http,
                "POST",
                token_endpoint,
                headers={**FORM_HEADERS, **ACCEPTED},
                content=urlencode(form).encode(),
                max_bytes=MAX_BYTES,
            )
    except ResponseTooLarge:
        raise _failed(f"the response of {token_endpoint} is too large") from None
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise _failed(f"no response from {token_endpoint} ({failure_reason(error)})") from None
    if not httpx.codes.is_success(response.status):
        reason = refusal_code(response.content, code, session.verifier, session.state)
        raise _failed(f"{token_endpoint} answered {response.status}: {reason or NO_READABLE_ERROR}")
    try:
        tokens = read_tokens(response.content)
    except UnusableResponse as error:
        raise _failed(f"{token_endpoint} answered {error}") from None
    return Grant(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at=_iso(datetime.now(UTC) + tokens.lifetime),
        token_endpoint=token_endpoint,
        client_id=client_id,
        scopes=tokens.scopes,
        scoped_teams=tokens.scoped_teams or [],
        scoped_organizations=tokens.scoped_organizations or [],
    )


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _failed(problem: str) -> ConnectError:
    return ConnectError(
        Verdict.EXCHANGE_FAILED,
        f"the sign-in could not be completed: {problem}",
        hint="run `hogsend connect posthog` again; a code can be used once, and for a few minutes",
    )
