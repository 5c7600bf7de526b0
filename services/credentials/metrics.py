"""State of the stored credential as gauges."""

from __future__ import annotations

from prometheus_client import Gauge

from hogsend.contract.credentials import SecretState
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.store import CredentialStore
from services.credentials.stored import SealedRow

MEASURE_SECONDS = 15.0
"""How often the state is read from PostgreSQL."""

STATE = Gauge(
    "hogsend_credential_state",
    "1 for what is true of the OAuth grant: `present`, `unreadable`, `absent`, `needs_reconnect`, "
    "`refresh_failing`; it is `unreadable`, too, while what was minted at connect is",
    ["provider", "state"],
)
EXPIRY = Gauge(
    "hogsend_credential_expiry_timestamp_seconds",
    "When the access token expires, as Unix time; 0 without one",
    ["provider"],
)


class CredentialGauges:
    """Keeps the gauges of one provider current; unseals a grant once, not at every look."""

    def __init__(self, store: CredentialStore, sealer: PayloadSealer, provider: str) -> None:
        self._store = store
        self._sealer = sealer
        self._provider = provider
        self._seen: tuple[SealedRow | None, SealedRow | None] = (None, None)
        self._state: SecretState = "absent"
        self._is_unreadable = False
        self._expires_at = 0.0

    async def measure(self) -> None:
        """Read the state from PostgreSQL.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        stored = await self._store.load(self._provider)
        rows = (stored.rows.get("oauth"), stored.rows.get("derived"))
        if rows != self._seen:
            grant, derived = self._sealer.grant(stored.rows), self._sealer.derived(stored.rows)
            self._seen, self._state = rows, grant.state
            # Connecting again replaces the grant, and never what was minted.
            self._is_unreadable = "unreadable" in (grant.state, derived.state)
            self._expires_at = grant.payload.expires_at.timestamp() if grant.payload else 0.0
        refresh = stored.refresh
        states = {
            "present": self._state == "present",
            "unreadable": self._is_unreadable,
            "absent": self._state == "absent",
            "needs_reconnect": refresh is not None and refresh.needs_reconnect,
            "refresh_failing": refresh is not None and refresh.reason is not None,
        }
        for state, holds in states.items():
            STATE.labels(self._provider, state).set(int(holds))
        EXPIRY.labels(self._provider).set(self._expires_at)
