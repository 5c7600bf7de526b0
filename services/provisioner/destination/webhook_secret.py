"""The webhook secret of PostHog's deliveries: configured, else generated (contract 1.2)."""

from __future__ import annotations

import secrets

import msgspec
import structlog

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import GrantReplaced, HogsendError, Unavailable
from hogsend.posthog.hog_template import is_plain
from hogsend.service import metrics
from services.provisioner.destination.errors import (
    NO_SECRET,
    OPEN_ROUTE_REMEDY,
    ProvisioningError,
    precondition_failed,
)
from services.provisioner.destination.minted_secret import MintedSecrets

log = structlog.get_logger(__name__)

NOT_PLAIN = "webhook_secret_not_plain"
CANNOT_ROTATE = "webhook_secret_not_rotatable"
SECRET_BYTES = 32


class WebhookSecrets(MintedSecrets):
    """The webhook secret, which is generated when none exists and generation is allowed."""

    async def obtain(self) -> str:
        """Return the secret, and generate it if needed; it is stored before it is returned.

        The caller must hold the provisioning lock, so that only one run generates a secret.

        Raises:
            ProvisioningError: no secret exists, and none can be generated and stored; or PostHog
                would not send the operator's secret unchanged.
            Unavailable: the credentials service is down.
        """
        if self._configured:
            _require_plain(self._configured)
            return self._configured
        payload = await self._load()
        return payload.webhook_secret or await self._mint(payload)

    async def check(self) -> None:
        """Check whether `obtain` would return a secret, and generate none; raises as `obtain`."""
        if self._configured:
            _require_plain(self._configured)
        else:
            await self._load()

    async def rotate(self) -> str:
        """Generate another secret and return it. The previous secret stays accepted.

        Call this only after a run that made PostHog send the present secret. Otherwise an even
        older secret could still be in use, and it would no longer be accepted.

        Raises:
            ProvisioningError: the secret is configured, or a new one could not be stored.
            Unavailable: the credentials service is down.
        """
        self.check_rotation()
        payload = await self._load()
        replaced = msgspec.structs.replace(
            payload, webhook_secret_previous=payload.webhook_secret, webhook_previous_until=None
        )
        return await self._mint(replaced)

    def check_rotation(self) -> None:
        """Check that the secret can be rotated.

        Raises:
            ProvisioningError: the secret is configured, so only the operator can change it.
        """
        if self._configured:
            raise precondition_failed(
                CANNOT_ROTATE,
                "The webhook secret is POSTHOG_WEBHOOK_SECRET, which only you can change.",
                "Put the present one into POSTHOG_WEBHOOK_SECRET_PREVIOUS of the gateway, and a "
                "new one into POSTHOG_WEBHOOK_SECRET of gateway and provisioner; then run `hogsend "
                "connect posthog --provision-only`.",
            )

    async def settle(self) -> None:
        """Set when the previous secret expires, after PostHog was given the present one.

        Raises:
            HogsendError: the time could not be stored, or the credentials service is down.
        """
        if self._configured:
            return
        payload = (await self._credentials.derived()).payload
        if payload is None or not payload.webhook_secret_previous:
            return
        if payload.webhook_previous_until is None:
            await self._credentials.store_derived(
                msgspec.structs.replace(payload, webhook_previous_until=self._previous_until())
            )

    async def _load(self) -> DerivedPayload:
        """Return the stored payload.

        Raises:
            ProvisioningError: the payload is unreadable, or it has no secret and none may be
                generated.
        """
        stored = await self._credentials.derived()
        if stored.state == "unreadable":
            raise _missing(
                "A webhook secret was generated earlier, but it cannot be decrypted any more. "
                "BETTER_AUTH_SECRET was probably rotated.",
                "Put the earlier secret into BETTER_AUTH_SECRET_PREVIOUS; or run "
                "`hogsend disconnect posthog`, then `hogsend connect posthog` again; "
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
        except (GrantReplaced, Unavailable):
            raise
        except HogsendError as error:
            metrics.FAILURES.labels("webhook_secret", error.code).inc()
            log.warning("a generated webhook secret could not be stored", reason=str(error))
            raise _missing(
                "POSTHOG_WEBHOOK_SECRET is not set, and a generated secret could not be stored.",
                OPEN_ROUTE_REMEDY,
            ) from error
        log.info("webhook secret generated and stored")
        return minted


def _require_plain(secret: str) -> None:
    if not is_plain(secret):
        raise precondition_failed(
            NOT_PLAIN,
            "POSTHOG_WEBHOOK_SECRET has a { or a backslash, which PostHog reads as a part of its "
            "template language: its deliveries would carry another secret, and be refused.",
            "Set POSTHOG_WEBHOOK_SECRET on gateway and provisioner to one without, for example "
            "from `openssl rand -hex 32`, and put the present one into "
            "POSTHOG_WEBHOOK_SECRET_PREVIOUS of the gateway; then run `hogsend connect posthog "
            "--provision-only`.",
        )


def _missing(detail: str, remediation: str) -> ProvisioningError:
    return precondition_failed(NO_SECRET, detail, remediation)
