"""The secret PostHog's deliveries carry: the configured one, else a minted one (contract 1.2)."""

from __future__ import annotations

import secrets

import msgspec
import structlog

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import HogsendError, Unavailable
from services.provisioner.credentials import Credentials
from services.provisioner.destination.errors import (
    NO_SECRET,
    OPEN_ROUTE_REMEDY,
    ProvisioningError,
    precondition_failed,
)

log = structlog.get_logger(__name__)

SECRET_BYTES = 32


class WebhookSecrets:
    """Finds the webhook secret, and mints one when none exists and `minting` is allowed."""

    def __init__(self, credentials: Credentials, configured: str | None, *, minting: bool) -> None:
        self._credentials = credentials
        self._configured = configured
        self._minting = minting

    @property
    def configured(self) -> str | None:
        """POSTHOG_WEBHOOK_SECRET, which takes precedence over a minted secret."""
        return self._configured

    async def obtain(self) -> str:
        """Return the secret, minting one if needed; a minted one is stored before it is returned.

        The caller holds the provisioning lock, so that only one run mints.

        Raises:
            ProvisioningError: no secret exists, and none can be minted and stored.
            Unavailable: the credentials service is down.
        """
        if self._configured:
            return self._configured
        payload = await self._readable()
        return payload.webhook_secret or await self._mint(payload)

    async def check(self) -> None:
        """Check whether `obtain` would return a secret, without minting; raises like `obtain`."""
        if not self._configured:
            await self._readable()

    async def _readable(self) -> DerivedPayload:
        """Return the stored payload if it holds a secret, or if one may be minted into it."""
        stored = await self._credentials.derived()
        if stored.state == "unreadable":
            raise _missing(
                "A webhook secret was minted earlier, but it cannot be decrypted any more. "
                "BETTER_AUTH_SECRET was probably rotated.",
                "Put the earlier secret into BETTER_AUTH_SECRET_PREVIOUS; or DELETE "
                "/v1/admin/provider-credentials/posthog and run `hogsend connect posthog` again; "
                "or set POSTHOG_WEBHOOK_SECRET.",
            )
        payload = stored.payload or DerivedPayload()
        if not payload.webhook_secret and not self._minting:
            raise _missing(
                "POSTHOG_WEBHOOK_SECRET is not set and POSTHOG_MINT_WEBHOOK_SECRET is false, so "
                "PostHog would deliver to an open ingest route.",
                OPEN_ROUTE_REMEDY,
            )
        return payload

    async def _mint(self, payload: DerivedPayload) -> str:
        minted = secrets.token_hex(SECRET_BYTES)
        try:
            await self._credentials.store_derived(
                msgspec.structs.replace(payload, webhook_secret=minted)
            )
        except Unavailable:
            raise
        except HogsendError as error:
            log.warning("a minted webhook secret could not be stored", reason=str(error))
            raise _missing(
                "POSTHOG_WEBHOOK_SECRET is not set, and a minted secret could not be stored.",
                OPEN_ROUTE_REMEDY,
            ) from error
        log.info("webhook secret minted and stored")
        return minted


def _missing(detail: str, remediation: str) -> ProvisioningError:
    return precondition_failed(NO_SECRET, detail, remediation)
