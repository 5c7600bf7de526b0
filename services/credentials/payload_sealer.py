"""Seals payloads and unseals stored rows. A row that cannot be read is logged once."""

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
from services.credentials.sealing import Sealer
from services.credentials.stored import Rows, SealedRow

log = structlog.get_logger(__name__)

UNREADABLE = Counter("hogsend_credentials_unreadable", "Rows that could not be unsealed", ["kind"])

KEPT_PAYLOADS = 16
"""Unsealed payloads in memory at most; a provider has two, and a replaced one falls out."""

Payload = TypeVar("Payload", OAuthPayload, DerivedPayload)


@dataclass(frozen=True)
class Unsealed(Generic[Payload]):
    """A row after unsealing; it has a payload only when `state` is `present`."""

    state: SecretState
    payload: Payload | None = None


class PayloadSealer:
    """Turns typed payloads into sealed text and back."""

    def __init__(self, sealer: Sealer) -> None:
        """Encrypt and decrypt with `sealer`."""
        self._sealer = sealer
        # By sealed text, which says which payload it is: every bearer asked for needs two of them.
        self._unsealed: LRUCache[str, OAuthPayload | DerivedPayload] = LRUCache(KEPT_PAYLOADS)
        self._reported: set[tuple[str, datetime]] = set()

    def grant(self, rows: Rows) -> Unsealed[OAuthPayload]:
        """Unseal the OAuth grant among `rows`."""
        return self._unseal_kind(rows, "oauth", OAuthPayload)

    def derived(self, rows: Rows) -> Unsealed[DerivedPayload]:
        """Unseal the derived payload among `rows`."""
        return self._unseal_kind(rows, "derived", DerivedPayload)

    def seal(self, payload: OAuthPayload | DerivedPayload) -> str:
        """Seal a payload for storing."""
        sealed = self._sealer.seal(msgspec.json.encode(payload))
        # It is described, and asked for, right after it was stored.
        self._unsealed[sealed] = payload
        return sealed

    def unseal(self, row: SealedRow, payload: type[Payload]) -> Payload:
        """Unseal one row.

        Raises:
            CannotUnseal: it was sealed with an unknown secret, or holds no valid payload.
        """
        known = self._unsealed.get(row.payload)
        if isinstance(known, payload):
            return known
        try:
            found = msgspec.json.decode(self._sealer.unseal(row.payload), type=payload)
        except NOT_JSON:
            # The cause quotes the payload, so it is not chained.
            raise CannotUnseal(f"the {row.kind} row does not hold a valid payload") from None
        self._unsealed[row.payload] = found
        return found

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
