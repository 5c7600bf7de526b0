"""What webhooks need to be accepted by this gateway; the provisioner does not know that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from hogsend.contract.provisioning import Diagnosis, Finding, SecretFinding, Unsigned
from services.gateway.signatures import TOLERANCE_SECONDS

CLOCK_SECONDS = 60.0
"""How far the clock here may be from PostHog's before it is told."""


class SignaturesFinding(Finding, frozen=True, kw_only=True):
    """Whether deliveries are signed, as far as they have to be."""

    state: Literal["signed", "unsigned", "refused", "unknown"]
    """`refused`: they are not signed, and this gateway accepts signed ones only; or they are, and
    its clock is so far from PostHog's that no signature is valid.
    """
    required: bool
    """`WEBHOOK_SIGNATURES`."""


def webhook_secret(stored: SecretFinding, *, missing: bool) -> SecretFinding:
    """Where there was a secret, or has to be one, the gateway is closed without it."""
    if stored.state != "absent" or not missing:
        return stored
    return msgspec.structs.replace(
        stored,
        detail="There is no webhook secret, so every webhook is answered 503.",
        remediation="Run `hogsend connect posthog`, which mints one, or set "
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
        "Set POSTHOG_SIGNING_SECRET, or run `hogsend connect posthog --provision-only` to mint it.",
    ),
    "not_provisioned": (
        "The destination does not sign with the present key.",
        "Run `hogsend connect posthog --provision-only`.",
    ),
}
_NOT_REQUIRED = "Or set WEBHOOK_SIGNATURES to `verify`, and webhooks are accepted without."


def signatures(found: Diagnosis, *, required: bool) -> SignaturesFinding:
    """Whether deliveries are signed, and what follows from that for this gateway."""
    destination = found.destination
    if destination.signed is None:
        return SignaturesFinding(state="unknown", required=required)
    if destination.signed:
        return _signed(found.posthog_now, required=required)
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
    """What PostHog signs says when, and is refused by a clock that differs."""
    ahead = (datetime.now(UTC) - posthog_now).total_seconds() if posthog_now else 0.0
    if abs(ahead) <= CLOCK_SECONDS:
        return SignaturesFinding(state="signed", required=required)
    refused = abs(ahead) > TOLERANCE_SECONDS
    differs = f"{_minutes(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} PostHog's"
    so = "So every delivery is refused" if refused else "Beyond five every delivery is refused"
    return SignaturesFinding(
        state="refused" if refused else "signed",
        required=required,
        detail=f"The gateway's clock is {differs}. {so}: a signature is valid for five minutes.",
        remediation="Set the clock of the gateway's machine, and keep it right by NTP.",
    )


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "1 minute" if minutes == 1 else f"{minutes:,} minutes"
