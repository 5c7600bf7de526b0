"""State of the stored credential as gauges."""

from __future__ import annotations

from prometheus_client import Gauge

from services.credentials.credential_service import CredentialService

MEASURE_SECONDS = 15.0
"""How often the state is read from PostgreSQL."""

STATE = Gauge(
    "hogsend_credential_state",
    "1 for what is true of the OAuth grant: `present`, `unreadable`, `absent`, `needs_reconnect`, "
    "`refresh_failing`",
    ["provider", "state"],
)
EXPIRY = Gauge(
    "hogsend_credential_expiry_timestamp_seconds",
    "When the access token expires, as Unix time; 0 without one",
    ["provider"],
)


async def measure(credentials: CredentialService, provider: str) -> None:
    """Read the state of one provider's credential.

    Raises:
        Unavailable: PostgreSQL is not available.
    """
    status = await credentials.status(provider)
    states = {
        "present": status.oauth == "present",
        "unreadable": status.oauth == "unreadable",
        "absent": status.oauth == "absent",
        "needs_reconnect": status.needs_reconnect,
        "refresh_failing": status.refresh_error is not None,
    }
    for state, holds in states.items():
        STATE.labels(provider, state).set(int(holds))
    EXPIRY.labels(provider).set(status.expires_at.timestamp() if status.expires_at else 0)
