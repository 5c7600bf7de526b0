"""The key that PostHog signs deliveries with: configured, else generated (ADR 19)."""

from __future__ import annotations

import msgspec
import structlog

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import GrantReplaced, HogsendError, Unavailable
from hogsend.posthog import signing
from hogsend.service import metrics
from services.provisioner.destination.minted_secret import MintedSecrets

log = structlog.get_logger(__name__)


class SigningSecrets(MintedSecrets):
    """The signing key, which is generated when none exists and generation is allowed."""

    async def obtain(self) -> str | None:
        """Return the key, generating it if needed; a generated key is stored before it is returned.

        None when generation is not allowed, the stored payload is unreadable, or the generated key
        could not be stored. The caller must hold the provisioning lock, so that only one run
        generates a key.

        Raises:
            Unavailable: the credentials service is down.
        """
        if self._configured:
            return self._configured
        payload = await self._load()
        if payload is None or payload.signing_secret or not self._minting:
            return payload.signing_secret if payload else None
        return await self._mint(payload)

    async def rotate(self) -> None:
        """Generate another key. The previous key stays accepted; `settle` sets when it expires.

        Call this only after a run that made PostHog sign with the present key. Otherwise an even
        older key could still be in use, and it would no longer be accepted.

        Raises:
            Unavailable: the credentials service is down, or could not store the key.
        """
        payload = await self._load()
        if payload is None or not payload.signing_secret:
            return
        if await self._mint(_with_previous(payload)) is None:
            raise Unavailable("the new signing key could not be stored; try again")
        log.info("a new signing key was generated")

    async def settle(self) -> None:
        """Set when the previous key expires, after PostHog was given the present one.

        When the operator has configured a key, the generated one becomes the previous key.

        Raises:
            Unavailable: the credentials service is down.
        """
        payload = await self._load()
        if payload is None:
            return
        secret = payload.signing_secret
        if self._configured and secret:
            payload, secret = _with_previous(payload), None
        if payload.signing_secret_previous and payload.signing_previous_until is None:
            settled = msgspec.structs.replace(
                payload, signing_previous_until=self._previous_until()
            )
            await self._store(settled, secret)

    async def _mint(self, payload: DerivedPayload) -> str | None:
        minted = await self._store(payload, signing.mint())
        stored = await self._load() if minted else None
        if stored is not None and stored.signing_secret == minted:
            return minted
        if minted:
            # The key must not be given to PostHog: no gateway could verify its signatures.
            metrics.FAILURES.labels("signing_secret", "not_kept").inc()
            log.warning(
                "a generated signing key was not kept, and is not used: the credentials service is "
                "of version 0.1.0, which knows none"
            )
        return None

    async def _load(self) -> DerivedPayload | None:
        stored = await self._credentials.derived()
        return None if stored.state == "unreadable" else stored.payload or DerivedPayload()

    async def _store(self, payload: DerivedPayload, secret: str | None) -> str | None:
        try:
            await self._credentials.store_derived(
                msgspec.structs.replace(payload, signing_secret=secret)
            )
        except (GrantReplaced, Unavailable):
            raise
        except HogsendError as error:
            metrics.FAILURES.labels("signing_secret", error.code).inc()
            log.warning("a generated signing key could not be stored", reason=str(error))
            return None
        return secret


def _with_previous(payload: DerivedPayload) -> DerivedPayload:
    """Make the present key of a payload its previous one."""
    return msgspec.structs.replace(
        payload,
        signing_secret_previous=payload.signing_secret,
        signing_previous_until=None,
    )
