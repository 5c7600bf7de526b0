"""Settings of the provisioner."""

from __future__ import annotations

from pydantic import Field

from hogsend.service.settings.base import Settings


class ProvisionerSettings(Settings):
    """Provisioner: whether it may generate secrets."""

    posthog_mint_webhook_secret: bool = Field(
        default=True,
        description="Whether provisioning generates a webhook secret when none is set; "
        "`false` answers `webhook_secret_missing` instead. The same for the signing key, without "
        "which deliveries are not signed.",
    )
