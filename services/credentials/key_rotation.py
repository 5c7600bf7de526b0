"""Reseals rows of a previous secret with the current one, so that the previous can be removed."""

from __future__ import annotations

import structlog

from hogsend.contract.errors import CannotUnseal
from hogsend.service import metrics
from services.credentials.sealing import Sealer
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)

ROTATE_SECONDS = 60.0
"""How often rows are checked. A replica with the old configuration may still seal with the previous
secret."""


class KeyRotation:
    """Reseals rows with the current secret; their payloads and versions do not change."""

    def __init__(self, store: CredentialStore, sealer: Sealer) -> None:
        """Reseal the rows of `store` with `sealer`."""
        self._store = store
        self._sealer = sealer

    async def rotate(self) -> int:
        """Reseal the rows of previous secrets, and return their number.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        resealed = 0
        for provider, row in await self._store.all_rows():
            try:
                payload = self._sealer.reseal(row.payload)
            except CannotUnseal:
                # No configured secret can unseal the row. It is also reported when it is used.
                metrics.FAILURES.labels("key_rotation", CannotUnseal.code).inc()
                log.warning("a row cannot be resealed", provider=provider, kind=row.kind)
                continue
            if payload is not None:
                await self._store.reseal(provider, row, payload)
                resealed += 1
                log.info("row resealed with the current secret", provider=provider, kind=row.kind)
        return resealed
