"""The key PostHog signs deliveries with: POSTHOG_SIGNING_SECRET, else a minted one (ADR 19)."""

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
    """Finds the key that PostHog signs with, and mints one when none exists and `minting` is on."""

    async def obtain(self) -> str | None:
        """Return the key, minting one if needed; a minted one is stored before it is returned.

        None when none can be had: minting is not allowed, what was stored cannot be read, or a key
        is not kept. The caller holds the provisioning lock, so that only one run mints.

        Raises:
            Unavailable: the credentials service is down.
        """
        if self._configured:
            return self._configured
        payload = await self._readable()
        if payload is None or payload.signing_secret or not self._minting:
            return payload.signing_secret if payload else None
        return await self._mint(payload)

    async def rotate(self) -> None:
        """Mint another key; the one before counts beside it, and its end is near after `settle`.

        Only after a run that left PostHog signing with the present one, so that no key that is in
        use is forgotten.

        Raises:
            Unavailable: the credentials service is down, or could not store it.
        """
        payload = await self._readable()
        if payload is None or not payload.signing_secret:
            return
        if await self._mint(_replaced(payload)) is None:
            raise Unavailable("the new signing key could not be stored; try again")
        log.info("a new signing key was minted")

    async def settle(self) -> None:
        """Set an end to the key before, now that PostHog has the present one.

        A minted key is the key before, too, once the operator set one.

        Raises:
            Unavailable: the credentials service is down.
        """
        payload = await self._readable()
        if payload is None:
            return
        secret = payload.signing_secret
        if self._configured and secret:
            payload, secret = _replaced(payload), None
        if payload.signing_secret_previous and payload.signing_previous_until is None:
            ending = msgspec.structs.replace(
                payload, signing_previous_until=self._end_of_previous()
            )
            await self._store(ending, secret)

    async def _mint(self, payload: DerivedPayload) -> str | None:
        minted = await self._store(payload, signing.mint())
        kept = await self._readable() if minted else None
        if kept is not None and kept.signing_secret == minted:
            return minted
        if minted:
            # PostHog would sign with a key that no gateway can verify with.
            metrics.FAILURES.labels("signing_secret", "not_kept").inc()
            log.warning(
                "a minted signing key was not kept, and is not used: the credentials service is "
                "of version 0.1.0, which knows none"
            )
        return None

    async def _readable(self) -> DerivedPayload | None:
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
            log.warning("a minted signing key could not be stored", reason=str(error))
            return None
        return secret


def _replaced(payload: DerivedPayload) -> DerivedPayload:
    return msgspec.structs.replace(
        payload,
        signing_secret_previous=payload.signing_secret,
        signing_previous_until=None,
    )
