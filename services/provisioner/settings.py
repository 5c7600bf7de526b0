"""Settings of the provisioner."""

from __future__ import annotations

from pydantic import Field

from hogsend.service.settings.base import Settings


class ProvisionerSettings(Settings):
    """Provisioner: whether it may generate secrets."""

    posthog_mint_webhook_secret: bool = Field(
        default=True,
        description="Whether provisioning generates a webhook secret and a signing key if these "
        "are not set. With `false`, it fails with `webhook_secret_missing` without a secret, and "
        "PostHog does not sign webhooks without a signing key.",
    )
