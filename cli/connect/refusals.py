"""Errors of `hogsend connect` for refusals of the server, each with its fix (contract 1.2)."""

from __future__ import annotations

from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.connect import region
from cli.connect.results import ConnectError, Verdict

NO_CREDENTIAL = "no_posthog_credential"
CONFLICT = 409
_FIXES = {
    NO_CREDENTIAL: "run `hogsend doctor` to see why the stored credential cannot be used",
    "posthog_not_configured": region.SET_HOST,
    "webhook_secret_missing": "set POSTHOG_WEBHOOK_SECRET on the server and restart it",
}
"""Fixes for error codes that have no remediation by the server (contract 1.2)."""


def as_failure(client: AdminClient, refused: AdminError) -> ConnectError:
    """Return the error for a refusal to provision."""
    if refused.status == CONFLICT and refused.code == NO_CREDENTIAL:  # contract 1.2
        return _without_credential(client, refused)
    return ConnectError(
        Verdict.PROVISION_FAILED,
        str(refused),
        hint=fix_for(refused),
        detail=refused.detail,
        remediation=refused.remediation,
    )


def _without_credential(client: AdminClient, refused: AdminError) -> ConnectError:
    """Return the error for a missing credential, or for a stored one that is unusable."""
    hint = "run `hogsend connect posthog` first, or set POSTHOG_PERSONAL_API_KEY on the server"
    detail = refused.detail
    try:
        client.credential()
    except AdminError as error:
        if error.status == CONFLICT:
            hint = (
                "set BETTER_AUTH_SECRET_PREVIOUS to the secret that sealed the credential; or run "
                "`hogsend disconnect posthog` and connect again"
            )
            detail = error.code
    else:
        hint = "run `hogsend doctor` to see the reason, and whether you have to connect again"
        detail = "a credential is stored, but PostHog does not refresh its token at the moment"
    return ConnectError(
        Verdict.NO_CREDENTIAL,
        str(refused),
        hint=hint,
        detail=detail,
        remediation=refused.remediation,
    )


def fix_for(refused: AdminError) -> str | None:
    """Return the fix for a refusal; None if the server sent a remediation."""
    return None if refused.remediation else _FIXES.get(refused.code or "", refused.fix)
