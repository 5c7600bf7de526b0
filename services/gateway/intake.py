"""What webhooks need to be accepted by this gateway; the provisioner does not know that."""

from __future__ import annotations

from typing import Literal

import msgspec

from hogsend.contract.provisioning import DestinationFinding, Finding, SecretFinding, Unsigned


class SignaturesFinding(Finding, frozen=True, kw_only=True):
    """Whether deliveries are signed, as far as they have to be."""

    state: Literal["signed", "unsigned", "refused", "unknown"]
    """`refused`: they are not signed, and this gateway accepts signed ones only."""
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


def signatures(destination: DestinationFinding, *, required: bool) -> SignaturesFinding:
    """Whether deliveries are signed, and what follows from that for a gateway that requires it."""
    if destination.signed is None:
        return SignaturesFinding(state="unknown", required=required)
    if destination.signed:
        return SignaturesFinding(state="signed", required=required)
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
