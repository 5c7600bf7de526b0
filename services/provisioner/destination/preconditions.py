"""What must be there before PostHog is asked anything, in the seed's order (contract 1.2)."""

from __future__ import annotations

from hogsend.contract.credentials import TokenReply
from hogsend.urls import is_loopback
from services.provisioner.destination.errors import (
    NO_CREDENTIAL,
    NOT_CONFIGURED,
    UNREACHABLE_URL,
    precondition,
)


def require(
    bearer: TokenReply, private_host: str | None, public_url: str, *, placeholder: bool
) -> str:
    """Give the host to provision at. The webhook secret, which comes last, is looked for later.

    Raises:
        Refused: the first thing that is missing.
    """
    if not bearer.token:
        raise precondition(NO_CREDENTIAL)
    if private_host is None:
        raise precondition(NOT_CONFIGURED)
    if not placeholder and is_loopback(public_url):
        raise precondition(
            UNREACHABLE_URL,
            f"API_PUBLIC_URL is {public_url}, which only this machine can reach: PostHog could "
            "never deliver there.",
            "Run it against the deployed instance: `hogsend connect posthog --provision-only "
            "--url https://your-instance`. Or set API_PUBLIC_URL to the URL PostHog reaches.",
        )
    return private_host
