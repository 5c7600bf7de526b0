"""Seals with the current secret what a previous one sealed, so that the previous one can go."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.errors import CannotUnseal, Unavailable
from hogsend.service import metrics
from services.credentials.sealing import Sealer
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""How often rows are looked at: an old replica that still runs may still seal the old way."""


class KeyRotation:
    """Moves rows to the current secret without changing what they say."""

    def __init__(self, store: CredentialStore, sealer: Sealer) -> None:
        """Reseal the rows of `store` with `sealer`."""
        self._store = store
        self._sealer = sealer

    async def rotate_forever(self) -> None:
        """Reseal now and once a minute."""
        while True:
            try:
                await self.reseal()
            except Unavailable as error:
                metrics.FAILURES.labels("resealing", error.code).inc()
                log.debug("resealing waits", reason=str(error))
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(LOOK_SECONDS)

    async def reseal(self) -> int:
        """Reseal what a previous secret sealed; gives how many rows that were.

        Raises:
            Unavailable: PostgreSQL is away.
        """
        resealed = 0
        for provider, row in await self._store.all_rows():
            try:
                payload = self._sealer.reseal(row.payload)
            except CannotUnseal:
                # Reported wherever it is used; here there is nothing to do about it.
                metrics.FAILURES.labels("resealing", CannotUnseal.code).inc()
                continue
            if payload is not None:
                await self._store.reseal(provider, row, payload)
                resealed += 1
                log.info("row resealed with the current secret", provider=provider, kind=row.kind)
        return resealed
