"""Exchange of the authorization code for tokens (RFC 6749, 4.1.3; contract 3.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from cli.admin.messages import Grant
from cli.connect.pkce import PkceSession
from cli.connect.results import ConnectError, Verdict
from cli.no_answer import why_no_answer
from cli.redaction import error_code
from hogsend.posthog.scopes import SCOPES
from hogsend.posthog.token_lifetime import token_lifetime
from hogsend.urls import is_loopback

EXCHANGE_SECONDS = 20.0


class _Tokens(msgspec.Struct, frozen=True):
    access_token: str = ""
    refresh_token: str = ""
    expires_in: msgspec.Raw = msgspec.Raw(b"0")
    """Seconds. 0 when missing: the server then refreshes before the first use."""
    scope: str | None = None
    scoped_teams: list[int] | None = None
    scoped_organizations: list[str] | None = None


async def exchange(
    code: str, session: PkceSession, *, token_endpoint: str, redirect_uri: str, client_id: str
) -> Grant:
    """Exchange a code for a grant. Follows no redirect.

    Raises:
        ConnectError: `exchange_failed`; contains neither the code, the verifier nor a token.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": client_id,
        "code_verifier": session.verifier,
    }
    try:
        async with httpx.AsyncClient(
            timeout=EXCHANGE_SECONDS,
            follow_redirects=False,
            trust_env=not is_loopback(token_endpoint),
        ) as http:
            answer = await http.post(
                token_endpoint, data=form, headers={"Accept": "application/json"}
            )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _failed(f"no answer from {token_endpoint} ({why_no_answer(error)})") from None
    if not answer.is_success:
        reason = error_code(_error_of(answer.content), code, session.verifier, session.state)
        raise _failed(f"{token_endpoint} answered {answer.status_code}: {reason}")
    try:
        tokens = msgspec.json.decode(answer.content, type=_Tokens, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _failed(f"{token_endpoint} answered with a malformed document") from None
    for name in ("access_token", "refresh_token"):
        if not getattr(tokens, name):
            raise _failed(f"{token_endpoint} answered without {name}")
    return Grant(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at=_iso(datetime.now(UTC) + token_lifetime(tokens.expires_in)),
        token_endpoint=token_endpoint,
        client_id=client_id,
        scopes=list(SCOPES) if tokens.scope is None else tokens.scope.split(),
        scoped_teams=tokens.scoped_teams or [],
        scoped_organizations=tokens.scoped_organizations or [],
    )


def _error_of(content: bytes) -> object:
    try:
        body: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return body.get("error") if isinstance(body, dict) else None


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _failed(problem: str) -> ConnectError:
    return ConnectError(
        Verdict.EXCHANGE_FAILED,
        f"the sign-in could not be completed: {problem}",
        hint="run `hogsend connect posthog` again; a code works once, and only for a minute",
    )
