"""Reasons why connecting in the browser failed, each with a remediation that the console shows."""

from __future__ import annotations

from hogsend.contract.authorizations import AuthorizationBegun, AuthorizationRefusal, RefusalCode
from hogsend.posthog.code_exchange import oauth_error_code

CONNECT_AGAIN = "Connect again."
PERSONAL_KEY = (
    "Use a personal API key: in PostHog, under Settings, User, Personal API keys, create one for "
    "your project with person:read, project:read and hog_function:write, and set "
    "POSTHOG_PERSONAL_API_KEY for every service of this server. Then set up the destination here."
)
ALL_SCOPES = "Connect again and leave every scope ticked, as an administrator of the project."
_CONSENT_ERRORS: dict[str, tuple[RefusalCode, str, str]] = {
    "access_denied": (
        "consent_denied",
        "Access was declined in PostHog; nothing was connected.",
        "Connect again and approve it. You have to be a member of the project.",
    ),
    "invalid_scope": (
        "scopes_refused",
        "PostHog does not grant the scopes that Hogsend asks for; nothing was connected.",
        ALL_SCOPES,
    ),
    "temporarily_unavailable": (
        "exchange_failed",
        "PostHog is not available at the moment.",
        "Connect again in a minute.",
    ),
}
_EXCHANGE_REMEDIES: dict[str | None, str] = {
    "invalid_grant": "A code works once, and for five minutes only. Connect again.",
    "invalid_client": (
        "PostHog does not know this client. It has to reach the client document of this server at "
        "API_PUBLIC_URL. Connect again, or use `hogsend connect posthog`."
    ),
    "invalid_request": (
        "PostHog may know an earlier client document of this server for up to an hour. Connect "
        "again then, or use `hogsend connect posthog`."
    ),
}


class Refused(Exception):
    """Connecting failed; `refusal` is the reason that the browser shows."""

    def __init__(self, code: RefusalCode, detail: str, remediation: str) -> None:
        super().__init__(code)
        self.refusal = AuthorizationRefusal(code=code, detail=detail, remediation=remediation)


def begin_refused(code: RefusalCode, detail: str) -> AuthorizationBegun:
    """Return the reply when an authorization cannot be started."""
    remediation = (
        PERSONAL_KEY
        if code == "oauth_unsupported"
        else "POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) has to be PostHog's app host, and the "
        "credentials service has to reach it. `hogsend connect posthog` asks from your own machine."
    )
    refusal = AuthorizationRefusal(code=code, detail=detail, remediation=remediation)
    return AuthorizationBegun(refusal=refusal)


def declined(error: str) -> Refused:
    """Return the refusal for an OAuth error in PostHog's redirect."""
    code = oauth_error_code(error)
    return Refused(
        *_CONSENT_ERRORS.get(
            code or "",
            (
                "exchange_failed",
                f"PostHog did not authorize: {code or 'no readable error'}.",
                CONNECT_AGAIN,
            ),
        )
    )


def exchange_remedy(code: str | None) -> str:
    """Return the remedy when PostHog refused to exchange the code, by its OAuth error."""
    return _EXCHANGE_REMEDIES.get(code, CONNECT_AGAIN)


def expired() -> Refused:
    """Return the refusal for a redirect whose authorization is not pending any more."""
    return Refused(
        "authorization_expired",
        "PostHog's redirect was used before, or arrived more than ten minutes after connecting "
        "started; nothing was connected.",
        CONNECT_AGAIN,
    )
