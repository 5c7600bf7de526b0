"""The secret PostHog's deliveries carry: the environment's, else a minted one (contract 1.2)."""

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
    Refused,
    precondition,
)

log = structlog.get_logger(__name__)

SECRET_BYTES = 32


class WebhookSecrets:
    """Finds the secret, and makes one up when there is none."""

    def __init__(self, credentials: Credentials, configured: str | None, *, minting: bool) -> None:
        """Prefer `configured`; make one up only when `minting` is allowed."""
        self._credentials = credentials
        self._configured = configured
        self._minting = minting

    @property
    def configured(self) -> str | None:
        """POSTHOG_WEBHOOK_SECRET, which wins over a minted one."""
        return self._configured

    async def obtain(self) -> str:
        """Give the secret; a fresh one is stored before anybody is told.

        Call it while no other run can mint.

        Raises:
            Refused: there is none, and none can be minted and stored.
            Unavailable: the credentials service is away.
        """
        if self._configured:
            return self._configured
        payload = await self._readable()
        return payload.webhook_secret or await self._mint(payload)

    async def check(self) -> None:
        """Find out whether `obtain` would give a secret, without minting one; raises like it."""
        if not self._configured:
            await self._readable()

    async def _readable(self) -> DerivedPayload:
        """What is stored, if a secret is in it or may be put there."""
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


def _missing(detail: str, remediation: str) -> Refused:
    return precondition(NO_SECRET, detail, remediation)
