"""Seals payloads and unseals stored rows. A row that cannot be unsealed is logged once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import msgspec
import structlog
from cachetools import LRUCache
from prometheus_client import Counter

from hogsend.contract.credentials import DerivedPayload, Kind, OAuthPayload, SecretState
from hogsend.contract.errors import CannotUnseal
from hogsend.contract.json_text import NOT_JSON
from services.credentials.records import Rows, SealedRow
from services.credentials.sealing import Sealer

log = structlog.get_logger(__name__)

UNREADABLE = Counter("hogsend_credentials_unreadable", "Rows that could not be unsealed", ["kind"])

MAX_CACHED_PAYLOADS = 16
"""Limit of unsealed payloads in memory. A provider has two; replaced ones are evicted."""

Payload = TypeVar("Payload", OAuthPayload, DerivedPayload)


@dataclass(frozen=True)
class Unsealed(Generic[Payload]):
    """The result of unsealing a row; `payload` is set only if `state` is `present`."""

    state: SecretState
    payload: Payload | None = None


class PayloadSealer:
    """Turns typed payloads into sealed text and back."""

    def __init__(self, sealer: Sealer) -> None:
        """Encrypt and decrypt with `sealer`."""
        self._sealer = sealer
        # By sealed text, which identifies the payload. Each request for a bearer needs both
        # payloads of its provider.
        self._unsealed: LRUCache[str, OAuthPayload | DerivedPayload] = LRUCache(MAX_CACHED_PAYLOADS)
        self._reported: set[tuple[str, datetime]] = set()

    def grant(self, rows: Rows) -> Unsealed[OAuthPayload]:
        """Unseal the OAuth grant among `rows`."""
        return self._unseal_kind(rows, "oauth", OAuthPayload)

    def derived(self, rows: Rows) -> Unsealed[DerivedPayload]:
        """Unseal the derived payload among `rows`."""
        return self._unseal_kind(rows, "derived", DerivedPayload)

    def seal(self, payload: OAuthPayload | DerivedPayload) -> str:
        """Seal a payload for storage."""
        sealed = self._sealer.seal(msgspec.json.encode(payload))
        # A stored payload is read again at once: its change is published, and services request it.
        self._unsealed[sealed] = payload
        return sealed

    def unseal(self, row: SealedRow, payload: type[Payload]) -> Payload:
        """Unseal one row.

        Raises:
            CannotUnseal: the row was sealed with an unknown secret, or has no valid payload.
        """
        cached = self._unsealed.get(row.payload)
        if isinstance(cached, payload):
            return cached
        try:
            unsealed = msgspec.json.decode(self._sealer.unseal(row.payload), type=payload)
        except NOT_JSON:
            # Not chained: the cause quotes the payload.
            raise CannotUnseal(f"the {row.kind} row does not hold a valid payload") from None
        self._unsealed[row.payload] = unsealed
        return unsealed

    def _unseal_kind(self, rows: Rows, kind: Kind, payload: type[Payload]) -> Unsealed[Payload]:
        row = rows.get(kind)
        if row is None:
            return Unsealed("absent")
        try:
            return Unsealed("present", self.unseal(row, payload))
        except CannotUnseal as error:
            UNREADABLE.labels(kind).inc()
            if (kind, row.updated_at) not in self._reported:
                self._reported.add((kind, row.updated_at))
                log.warning(
                    "stored credential cannot be read; name the secret that sealed it in "
                    "BETTER_AUTH_SECRET_PREVIOUS, or delete the credential and connect again",
                    kind=kind,
                    reason=str(error),
                )
            return Unsealed("unreadable")
