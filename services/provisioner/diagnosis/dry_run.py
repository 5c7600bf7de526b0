"""Dry run: checks whether provisioning would be refused, without provisioning."""

from __future__ import annotations

import structlog

from hogsend.contract.credentials import CredentialStatus, TokenReply
from hogsend.contract.errors import HogsendError
from hogsend.contract.provisioning import ProvisioningFinding, Refusal
from hogsend.service import metrics
from services.provisioner.destination import preconditions
from services.provisioner.destination.errors import (
    NO_CREDENTIAL,
    NOT_CONFIGURED,
    NOT_REFRESHED_DETAIL,
    NOT_REFRESHED_REMEDY,
    ProvisioningError,
)
from services.provisioner.destination.posthog_errors import SCOPES_REMEDY
from services.provisioner.destination.provisioning import Instance
from services.provisioner.destination.webhook_secret import WebhookSecrets
from services.provisioner.diagnosis import findings

log = structlog.get_logger(__name__)

WRITE_SCOPE = "hog_function:write"
MISSING_SCOPE = "missing-scope"

# The 409 bodies of the contract have only a code for these refusals. A diagnosis needs a text.
TEXTS = {
    NO_CREDENTIAL: (
        "There is neither a usable OAuth credential nor a personal API key.",
        (
            "Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY to a key with "
            "Project: Read and Hog function: Write."
        ),
    ),
    NOT_CONFIGURED: (
        "No PostHog host is configured.",
        "Set POSTHOG_HOST to the PostHog instance to provision.",
    ),
}


async def dry_run(
    instance: Instance,
    bearer: TokenReply | HogsendError,
    status: CredentialStatus | HogsendError,
    secrets: WebhookSecrets,
) -> ProvisioningFinding:
    """Check the preconditions of a provisioning run in their order.

    Args:
        instance: the configuration that would be provisioned.
        bearer: the bearer that a run would use; an error if the credentials service did not reply.
        status: the stored credential; an error if the credentials service did not reply.
        secrets: the source of the webhook secret.
    """
    if isinstance(bearer, HogsendError):
        return _unknown(bearer)
    if isinstance(status, HogsendError):
        return _unknown(status)
    try:
        preconditions.require(bearer, instance.private_host, instance.public_url, placeholder=False)
        await secrets.check()
    except ProvisioningError as error:
        return _refused(error.refusal, bearer)
    except HogsendError as error:
        metrics.FAILURES.labels("diagnosis", error.code).inc()
        log.debug("webhook secret could not be checked", reason=str(error))
        return _unknown(error)
    # The scopes of a personal API key are known only to PostHog.
    if bearer.source == "oauth" and WRITE_SCOPE not in status.scopes:
        return ProvisioningFinding(
            state="refused",
            code=MISSING_SCOPE,
            detail=f"The grant lacks {WRITE_SCOPE}.",
            remediation=SCOPES_REMEDY,
        )
    return ProvisioningFinding(state="possible")


def _refused(refusal: Refusal, bearer: TokenReply) -> ProvisioningFinding:
    detail, remediation = TEXTS.get(refusal.code, (refusal.detail, refusal.remediation))
    if refusal.code == NO_CREDENTIAL and bearer.not_refreshed:
        detail = f"{NOT_REFRESHED_DETAIL}: {bearer.not_refreshed}."
        remediation = NOT_REFRESHED_REMEDY
    return ProvisioningFinding(
        state="refused", code=refusal.code, detail=detail, remediation=remediation
    )


def _unknown(error: HogsendError) -> ProvisioningFinding:
    detail, remediation = findings.unanswered(error)
    return ProvisioningFinding(state="unknown", detail=detail, remediation=remediation)
