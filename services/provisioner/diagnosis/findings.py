"""Findings of a diagnosis that need no request to PostHog, each with its remediation."""

from __future__ import annotations

from hogsend.contract.credentials import CredentialStatus
from hogsend.contract.errors import Forbidden, HogsendError, sentence
from hogsend.contract.provisioning import CredentialFinding, PublicUrlFinding, SecretFinding
from hogsend.posthog import scopes
from hogsend.urls import is_loopback

SERVICE_DOWN = "The credentials service did not answer, so this is unknown."
CHECK_SERVICE = "Check `hogsend status` and the log of the credentials service."
CONNECT = "Run `hogsend connect posthog`."
READ_OR_FORGET = (
    "Put the earlier secret into BETTER_AUTH_SECRET_PREVIOUS; or run "
    "`hogsend disconnect posthog`, then `hogsend connect posthog`."
)


def unanswered(error: HogsendError) -> tuple[str, str]:
    """Return why the credentials service did not reply, and the remediation."""
    if isinstance(error, Forbidden):
        return sentence(str(error)), f"{sentence(error.fix)} {CHECK_SERVICE}"
    return SERVICE_DOWN, CHECK_SERVICE


def credential(status: CredentialStatus | HogsendError) -> CredentialFinding:
    """Assess the stored OAuth grant; `status` is an error if the service did not reply."""
    if isinstance(status, HogsendError):
        detail, remediation = unanswered(status)
        return CredentialFinding(state="unknown", detail=detail, remediation=remediation)
    if status.oauth == "unreadable":
        return CredentialFinding(
            state="unreadable",
            detail="The stored credential cannot be decrypted. BETTER_AUTH_SECRET was probably "
            "rotated.",
            # Connecting again would replace the grant, but not an unreadable generated secret.
            remediation=READ_OR_FORGET
            if _is_minted_unreadable(status)
            else "Put the earlier secret into BETTER_AUTH_SECRET_PREVIOUS, or run `hogsend connect "
            "posthog` again.",
        )
    if status.oauth == "absent":
        return CredentialFinding(
            state="absent",
            detail="No OAuth credential is stored"
            + ("; the personal API key is used." if status.personal_key else "."),
            remediation=None if status.personal_key else CONNECT,
        )
    if status.needs_reconnect:
        return CredentialFinding(
            state="needs_reconnect",
            scopes=status.scopes,
            expires_at=status.expires_at,
            refresh_failing=True,
            detail="PostHog no longer accepts the refresh token: it was revoked, expired or used "
            "twice, or the application that it belongs to is gone.",
            remediation="Run `hogsend connect posthog` again.",
        )
    return CredentialFinding(
        state="present",
        scopes=status.scopes,
        expires_at=status.expires_at,
        refresh_failing=status.refresh_error is not None,
        detail=f"The last token refresh failed: {status.refresh_error}"
        if status.refresh_error
        else None,
        remediation="The refresh is retried automatically. If it keeps failing, check that the "
        "credentials service can reach PostHog."
        if status.refresh_error
        else None,
    )


def webhook_secret(status: CredentialStatus | HogsendError, *, configured: bool) -> SecretFinding:
    """Assess the secret that PostHog's deliveries must carry."""
    if configured:
        is_unreadable = isinstance(status, CredentialStatus) and _is_minted_unreadable(status)
        return SecretFinding(
            state="present",
            source="environment",
            detail="What an earlier connection stored, the project's key included, cannot be "
            "decrypted."
            if is_unreadable
            else None,
            remediation=READ_OR_FORGET if is_unreadable else None,
        )
    if isinstance(status, HogsendError):
        detail, remediation = unanswered(status)
        return SecretFinding(state="unknown", source="none", detail=detail, remediation=remediation)
    match status.webhook_secret:
        case "present":
            return SecretFinding(state="present", source="minted")
        case "unreadable":
            return SecretFinding(
                state="unreadable",
                source="minted",
                detail="The generated webhook secret cannot be decrypted, so deliveries are "
                "answered 503.",
                remediation=READ_OR_FORGET,
            )
        case "absent":
            return SecretFinding(
                state="absent",
                source="none",
                detail="There is no webhook secret: every sender that reaches this instance can "
                "post events.",
                remediation="Run `hogsend connect posthog`, which generates one, or set "
                "POSTHOG_WEBHOOK_SECRET.",
            )


def scope_gap(status: CredentialStatus | HogsendError) -> list[str]:
    """List the scopes that the stored grant lacks; empty without a readable grant."""
    if isinstance(status, HogsendError) or status.oauth != "present":
        return []
    return scopes.missing(status.scopes)


def public_url(url: str) -> PublicUrlFinding:
    """Assess the URL that PostHog delivers to."""
    if not is_loopback(url):
        return PublicUrlFinding(url=url, loopback=False)
    return PublicUrlFinding(
        url=url,
        loopback=True,
        detail="Only this machine can reach API_PUBLIC_URL, so PostHog cannot deliver here.",
        remediation="Set API_PUBLIC_URL to the URL PostHog reaches this instance at; on a "
        "laptop, a tunnel's.",
    )


def _is_minted_unreadable(status: CredentialStatus) -> bool:
    return status.webhook_secret == "unreadable"  # noqa: S105 - a state
