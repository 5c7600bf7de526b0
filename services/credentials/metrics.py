"""Gauges of the state of the stored credential."""

from __future__ import annotations

from prometheus_client import Gauge

from hogsend.contract.credentials import SecretState
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.records import SealedRow
from services.credentials.store import CredentialStore

MEASURE_SECONDS = 15.0
"""How often the state is read from PostgreSQL."""

STATE = Gauge(
    "hogsend_credential_state",
    "1 for what is true of the OAuth grant: `present`, `unreadable`, `absent`, `needs_reconnect`, "
    "`refresh_failing`; also `unreadable` while the secrets that were generated at connect are",
    ["provider", "state"],
)
EXPIRY = Gauge(
    "hogsend_credential_expiry_timestamp_seconds",
    "When the access token expires, as Unix time; 0 without one",
    ["provider"],
)


class CredentialGauges:
    """Measures one provider's credential. A grant is unsealed once, not at every measurement."""

    def __init__(self, store: CredentialStore, sealer: PayloadSealer, provider: str) -> None:
        self._store = store
        self._sealer = sealer
        self._provider = provider
        self._measured_rows: tuple[SealedRow | None, SealedRow | None] = (None, None)
        self._state: SecretState = "absent"
        self._is_unreadable = False
        self._expires_at = 0.0

    async def measure(self) -> None:
        """Read the state from PostgreSQL and set the gauges.

        Raises:
            Unavailable: PostgreSQL is not available.
        """
        stored = await self._store.load(self._provider)
        rows = (stored.rows.get("oauth"), stored.rows.get("derived"))
        if rows != self._measured_rows:
            grant, derived = self._sealer.grant(stored.rows), self._sealer.derived(stored.rows)
            self._measured_rows, self._state = rows, grant.state
            # The derived payload counts too: connecting again replaces the grant, but not an
            # unreadable derived payload.
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
        for state, is_true in states.items():
            STATE.labels(self._provider, state).set(int(is_true))
        EXPIRY.labels(self._provider).set(self._expires_at)
