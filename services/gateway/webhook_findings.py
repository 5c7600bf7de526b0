"""Findings of the diagnosis about the acceptance of webhooks.

The provisioner cannot make them, because they depend on the settings and the clock of this gateway.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from hogsend.contract.provisioning import Diagnosis, Finding, SecretFinding, Unsigned
from services.gateway.signatures import TOLERANCE_SECONDS

CLOCK_SECONDS = 60.0
"""Difference between this machine's clock and PostHog's from which it is reported."""


class SignaturesFinding(Finding, frozen=True, kw_only=True):
    """Whether deliveries are signed, and whether the gateway accepts them."""

    state: Literal["signed", "unsigned", "refused", "unknown"]
    """`refused`: deliveries are not signed but the gateway accepts only signed ones, or they are
    signed but the gateway's clock differs so much from PostHog's that no signature is valid.
    """
    required: bool
    """Whether `WEBHOOK_SIGNATURES` requires signatures."""


def secret_finding(stored: SecretFinding, *, missing: bool) -> SecretFinding:
    """Return the finding about the webhook secret.

    Args:
        stored: the provisioner's finding.
        missing: whether this gateway refuses webhooks because it has no secret.
    """
    if stored.state != "absent" or not missing:
        return stored
    return msgspec.structs.replace(
        stored,
        detail="There is no webhook secret, so every webhook is answered 503.",
        remediation="Run `hogsend connect posthog`, which generates one, or set "
        "POSTHOG_WEBHOOK_SECRET; WEBHOOK_OPEN=true accepts webhooks from everybody.",
    )


_UNSIGNED: dict[Unsigned, tuple[str, str]] = {
    "unsupported": (
        "The webhook template of this PostHog has no signing secret.",
        "Upgrade PostHog, if you want deliveries to be signed.",
    ),
    "custom_program": (
        "The destination's program was changed in PostHog, and does not sign.",
        "Reset the destination to its template in PostHog, if you want deliveries to be signed.",
    ),
    "no_key": (
        "There is no signing key.",
        "Set POSTHOG_SIGNING_SECRET, or generate one: `hogsend connect posthog --provision-only`.",
    ),
    "not_provisioned": (
        "The destination does not sign with the current key.",
        "Run `hogsend connect posthog --provision-only`.",
    ),
}
_NOT_REQUIRED = "Or set WEBHOOK_SIGNATURES to `verify`, and webhooks are accepted without one."


def signatures_finding(diagnosis: Diagnosis, *, required: bool) -> SignaturesFinding:
    """Return the finding about signatures. `required`: the gateway accepts only signed webhooks."""
    destination = diagnosis.destination
    if destination.signed is None:
        return SignaturesFinding(state="unknown", required=required)
    if destination.signed:
        return _signed(diagnosis.posthog_now, required=required)
    detail, remedy = _UNSIGNED[destination.unsigned_because or "unsupported"]
    if not required:
        return SignaturesFinding(
            state="unsigned", required=False, detail=detail, remediation=remedy
        )
    return SignaturesFinding(
        state="refused",
        required=True,
        detail=f"{detail} So every delivery is refused.",
        remediation=f"{remedy} {_NOT_REQUIRED}",
    )


def _signed(posthog_now: datetime | None, *, required: bool) -> SignaturesFinding:
    """Compare the clocks: a signature has a timestamp, and is refused if they differ too much."""
    ahead = (datetime.now(UTC) - posthog_now).total_seconds() if posthog_now else 0.0
    if abs(ahead) <= CLOCK_SECONDS:
        return SignaturesFinding(state="signed", required=required)
    refused = abs(ahead) > TOLERANCE_SECONDS
    differs = f"{_minutes(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} PostHog's"
    effect = (
        "So every delivery is refused"
        if refused
        else "Beyond five minutes every delivery is refused"
    )
    return SignaturesFinding(
        state="refused" if refused else "signed",
        required=required,
        detail=f"The gateway's clock is {differs}. {effect}: a signature is valid for five "
        "minutes.",
        remediation="Set the clock of the gateway's machine, and keep it right by NTP.",
    )


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "1 minute" if minutes == 1 else f"{minutes:,} minutes"
