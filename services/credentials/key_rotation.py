"""Seals with the current secret what a previous one sealed, so that the previous one can go."""

from __future__ import annotations

import structlog

from hogsend.contract.errors import CannotUnseal
from hogsend.service import metrics
from services.credentials.sealing import Sealer
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)

ROTATE_SECONDS = 60.0
"""How often rows are checked: a replica of the old configuration may still seal the old way."""


class KeyRotation:
    """Moves rows to the current secret; neither their payloads nor their versions change."""

    def __init__(self, store: CredentialStore, sealer: Sealer) -> None:
        """Reseal the rows of `store` with `sealer`."""
        self._store = store
        self._sealer = sealer

    async def rotate(self) -> int:
        """Reseal what a previous secret sealed; returns the number of rows.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        resealed = 0
        for provider, row in await self._store.all_rows():
            try:
                payload = self._sealer.reseal(row.payload)
            except CannotUnseal:
                # The row is reported each time it is used. No configured secret can reseal it.
                metrics.FAILURES.labels("key_rotation", CannotUnseal.code).inc()
                log.warning("a row cannot be resealed", provider=provider, kind=row.kind)
                continue
            if payload is not None:
                await self._store.reseal(provider, row, payload)
                resealed += 1
                log.info("row resealed with the current secret", provider=provider, kind=row.kind)
        return resealed
