"""Preconditions of the first request to PostHog, in the order of contract 1.2."""

from __future__ import annotations

from hogsend.contract.credentials import TokenReply
from hogsend.posthog.project_choice import choose_project
from hogsend.urls import is_loopback
from services.provisioner.destination.errors import (
    NO_CREDENTIAL,
    NOT_CONFIGURED,
    PROJECT_NOT_OPEN,
    UNREACHABLE_URL,
    precondition_failed,
)


def require(
    bearer: TokenReply, private_host: str | None, public_url: str, *, placeholder: bool
) -> str:
    """Check the preconditions, and return the host to provision at.

    The last precondition, a webhook secret, is checked by `WebhookSecrets`, because generating one
    needs the provisioning lock.

    Raises:
        ProvisioningError: the first precondition in order that does not hold.
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


def check_project(
    configured: str | None, bearer: TokenReply, host: str, requested: str | None
) -> None:
    """Check that the requested project can be chosen, and that the grant covers it.

    Raises:
        ProvisioningError: the settings or the grant determine another project, or the grant does
            not cover the requested one.
    """
    if requested is None:
        return
    choice = choose_project(configured, bearer, host, requested)
    if choice.id != requested:
        decided_by = {
            "POSTHOG_PROJECT_ID": "POSTHOG_PROJECT_ID",
            "grant": "The grant, which covers no other one,",
        }[choice.source]
        raise precondition_failed(
            PROJECT_NOT_OPEN,
            f"{decided_by} says project {choice.id}, so project {requested} cannot be chosen.",
            "Leave the project out, unset POSTHOG_PROJECT_ID, or connect again and grant access "
            "to the project that is meant.",
        )
    if not choice.is_covered:
        raise precondition_failed(PROJECT_NOT_OPEN, choice.mismatch, choice.remedy)
