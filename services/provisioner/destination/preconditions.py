"""What must hold before the first request to PostHog, in the order of contract 1.2."""

from __future__ import annotations

from hogsend.contract.credentials import TokenReply
from hogsend.urls import is_loopback
from services.provisioner.destination.errors import (
    NO_CREDENTIAL,
    NOT_CONFIGURED,
    UNREACHABLE_URL,
    precondition_failed,
)


def require(
    bearer: TokenReply, private_host: str | None, public_url: str, *, placeholder: bool
) -> str:
    """Return the host to provision at.

    The last precondition, the webhook secret, is checked by `WebhookSecrets`: minting one needs the
    provisioning lock.

    Raises:
        ProvisioningError: a precondition does not hold; the first one in order is named.
    """
    if not bearer.token:
        raise precondition_failed(NO_CREDENTIAL)
    if private_host is None:
        raise precondition_failed(NOT_CONFIGURED)
    if not placeholder and is_loopback(public_url):
        raise precondition_failed(
            UNREACHABLE_URL,
            f"API_PUBLIC_URL is {public_url}, which only this machine can reach: PostHog could "
            "never deliver there.",
            "Run it against the deployed instance: `hogsend connect posthog --provision-only "
            "--url https://your-instance`. Or set API_PUBLIC_URL to the URL PostHog reaches.",
        )
    return private_host
