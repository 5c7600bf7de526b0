"""Whether provisioning would be refused, found out without trying it."""

from __future__ import annotations

import structlog

from hogsend.contract.credentials import CredentialStatus, TokenReply
from hogsend.contract.errors import HogsendError
from hogsend.contract.provisioning import ProvisioningFinding
from hogsend.service import metrics
from services.provisioner.destination import preconditions
from services.provisioner.destination.errors import (
    NO_CREDENTIAL,
    NO_SECRET,
    NOT_CONFIGURED,
    SCOPES_REMEDY,
    UNREACHABLE_URL,
    Refused,
)
from services.provisioner.destination.provisioning import Instance
from services.provisioner.destination.webhook_secret import WebhookSecrets
from services.provisioner.diagnosis import findings

log = structlog.get_logger(__name__)

WRITE_SCOPE = "hog_function:write"
MISSING_SCOPE = "missing-scope"

# The contract's 409 bodies carry a code alone; whoever looks at the outlook has room for more.
REMEDIES = {
    NO_CREDENTIAL: "Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY to a key with "
    "Project: Read and Hog function: Write.",
    NOT_CONFIGURED: "Set POSTHOG_HOST, so that it is clear which PostHog is meant.",
    UNREACHABLE_URL: "Set API_PUBLIC_URL to an address that PostHog can deliver to.",
    NO_SECRET: "Set POSTHOG_WEBHOOK_SECRET, or let one be made: POSTHOG_MINT_WEBHOOK_SECRET=true.",
}


async def outlook(
    instance: Instance,
    bearer: TokenReply | None,
    status: CredentialStatus | None,
    secrets: WebhookSecrets,
) -> ProvisioningFinding:
    """Check what a run would check, in its order.

    Args:
        instance: what would be provisioned.
        bearer: the bearer a run would use; None when nobody could say.
        status: what is stored; None when nobody could say.
        secrets: where a run would get the webhook secret.
    """
    if bearer is None or status is None:
        return ProvisioningFinding(
            state="unknown", detail=findings.SERVICE_AWAY, remediation=findings.START_SERVICE
        )
    try:
        preconditions.require(bearer, instance.private_host, instance.public_url, placeholder=False)
        await secrets.check()
    except Refused as refused:
        refusal = refused.refusal
        return ProvisioningFinding(
            state="refused",
            code=refusal.code,
            detail=refusal.detail,
            remediation=refusal.remediation or REMEDIES.get(refusal.code),
        )
    except HogsendError as error:
        metrics.FAILURES.labels("diagnosis", error.code).inc()
        log.debug("not known", reason=str(error))
        return ProvisioningFinding(
            state="unknown", detail=findings.SERVICE_AWAY, remediation=findings.START_SERVICE
        )
    # What a personal key may do, only PostHog knows.
    if bearer.source == "oauth" and WRITE_SCOPE not in status.scopes:
        return ProvisioningFinding(
            state="refused",
            code=MISSING_SCOPE,
            detail=f"The grant lacks {WRITE_SCOPE}.",
            remediation=SCOPES_REMEDY,
        )
    return ProvisioningFinding(state="possible")
