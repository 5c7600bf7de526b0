"""Errors of provisioning, each with a remediation for the operator (contract 1.2 and 2.7)."""

from __future__ import annotations

from hogsend.contract.errors import GrantReplaced
from hogsend.contract.provisioning import Refusal, Unsigned

NO_CREDENTIAL = "no_posthog_credential"
PROJECT_NOT_OPEN = "project_not_open"
NOT_CONFIGURED = "posthog_not_configured"
UNREACHABLE_URL = "api_public_url_unreachable"
CANNOT_SIGN = "webhook_signatures_unsupported"
CANNOT_ROTATE = "signing_key_not_rotatable"
NO_SECRET = "webhook_secret_missing"  # noqa: S105 - a code

OPEN_ROUTE_REMEDY = (
    "Generate a random secret, set POSTHOG_WEBHOOK_SECRET to it on the api and the worker, "
    "redeploy, then run `hogsend connect posthog --provision-only`."
)
RERUN = "then run `hogsend connect posthog --provision-only` again."
NOT_REFRESHED_DETAIL = "PostHog has not refreshed the access token yet"
NOT_REFRESHED_REMEDY = (
    "Nothing has to be set: it is tried again every minute. See whether PostHog works, and whether "
    f"the network lets the credentials service reach it; {RERUN}"
)

_UNSIGNED: dict[Unsigned, tuple[str, str]] = {
    "unsupported": (
        "the webhook template of this PostHog has no signing secret.",
        "Upgrade PostHog to a version whose webhook destinations have a signing secret.",
    ),
    "custom_program": (
        "the destination's program was changed in PostHog, and does not sign.",
        "In PostHog, reset the destination to its template, or delete it and have it made anew.",
    ),
    "no_key": (
        "POSTHOG_SIGNING_SECRET is not set, and POSTHOG_MINT_WEBHOOK_SECRET allows no other key.",
        "Set POSTHOG_SIGNING_SECRET on gateway and provisioner, to `openssl rand -base64 32`.",
    ),
    "not_provisioned": (
        "the destination has no signing key yet.",
        "Run `hogsend connect posthog --provision-only`.",
    ),
}


class ProvisioningError(Exception):
    """Provisioning failed; `refusal` is the reply to the caller."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def cannot_sign(reason: Unsigned | None) -> ProvisioningError:
    """The gateway requires signatures, and PostHog would not sign deliveries (409)."""
    detail, remedy = _UNSIGNED[reason or "unsupported"]
    return precondition_failed(
        CANNOT_SIGN,
        f"WEBHOOK_SIGNATURES is `required`, and deliveries would not be signed: {detail}",
        f"{remedy} Or set WEBHOOK_SIGNATURES to `verify` on the gateway; {RERUN}",
    )


def cannot_rotate(reason: Unsigned | None, *, configured: bool) -> ProvisioningError:
    """No generated signing key is in use, so none can be rotated (409)."""
    if configured:
        return precondition_failed(
            CANNOT_ROTATE,
            "The signing key is POSTHOG_SIGNING_SECRET, which only you can change.",
            "Put the present one into POSTHOG_SIGNING_SECRET_PREVIOUS of the gateway, and a new "
            "one into POSTHOG_SIGNING_SECRET of gateway and provisioner; then run `hogsend connect "
            "posthog --provision-only`.",
        )
    detail, remedy = _UNSIGNED[reason or "unsupported"]
    return precondition_failed(CANNOT_ROTATE, f"Deliveries are not signed: {detail}", remedy)


def with_refresh_reason(error: ProvisioningError, reason: str | None) -> ProvisioningError:
    """Add to a refused credential that the stored grant is going to be refreshed.

    Args:
        error: PostHog refused the grant's last token, or the personal API key used instead of it.
        reason: why the grant is not refreshed at the moment; None if it is, and `error` is
            returned unchanged.
    """
    refusal = error.refusal
    if reason is None or refusal.code not in {"unauthorized", "missing-scope"}:
        return error
    return posthog_failed(
        refusal.code,
        f"{refusal.detail} {NOT_REFRESHED_DETAIL}: {reason}.",
        f"{NOT_REFRESHED_REMEDY} If it stays so: {refusal.remediation}",
    )


def grant_replaced() -> ProvisioningError:
    """The grant that a run started with is not the stored one any more (409)."""
    return precondition_failed(
        GrantReplaced.code,
        "PostHog was connected again while this ran, or the credential was deleted: it stopped "
        "before it changed anything else.",
        "Run `hogsend connect posthog --provision-only` for the project that is connected now.",
    )


def precondition_failed(
    code: str, detail: str | None = None, remediation: str | None = None
) -> ProvisioningError:
    """A precondition on this instance does not hold (409)."""
    return ProvisioningError(
        Refusal(reason="precondition", code=code, detail=detail, remediation=remediation)
    )


def posthog_failed(code: str, detail: str, remediation: str) -> ProvisioningError:
    """Provisioning in PostHog failed (502)."""
    return ProvisioningError(
        Refusal(reason="posthog", code=code, detail=detail, remediation=remediation)
    )


def missing_secret() -> ProvisioningError:
    """There is no webhook secret: PostHog would deliver to an open route."""
    return posthog_failed(
        "missing-webhook-secret",
        "There is no webhook secret, so the ingest route would accept events from any sender.",
        OPEN_ROUTE_REMEDY,
    )
