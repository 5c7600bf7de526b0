"""Says which webhooks were refused for their secret: every one in a metric, a few in the log."""

from __future__ import annotations

import structlog
from litestar.types import Scope
from prometheus_client import Counter

from services.gateway.client_address import ClientAddresses, counted_as
from services.gateway.failure_counts import FailureCounts

log = structlog.get_logger(__name__)

REFUSED = Counter(
    "hogsend_webhooks_refused", "Webhooks refused for their secret, by what was wrong", ["reason"]
)
LINES_A_MINUTE = 10
"""Lines in the log, for at most as many addresses; the metric counts the rest."""


class Refusals:
    """Counts webhooks that were refused, and says so."""

    def __init__(self, addresses: ClientAddresses) -> None:
        """Name clients by these addresses."""
        self._addresses = addresses
        self._lines = FailureCounts(LINES_A_MINUTE)
        self._clients = FailureCounts(1)
        self._unsaid = 0

    def mismatch(self, scope: Scope, *, presented: bool) -> None:
        """Say that a webhook carried a wrong secret, or none."""
        reason = "wrong" if presented else "none"
        REFUSED.labels(reason).inc()
        address = self._addresses.of(scope)
        client = counted_as(address)
        self._unsaid += 1
        if self._clients.is_over(client) or self._lines.is_over(""):
            return
        self._clients.add(client)
        self._lines.add("")
        log.warning(
            "a webhook was refused for its secret: see that PostHog's destination sends the one "
            "that is in force (`hogsend doctor`)",
            address=address,
            secret=reason,
            refused=self._unsaid,
        )
        self._unsaid = 0

    def unknown(self) -> None:
        """Count a webhook that could not be checked."""
        REFUSED.labels("unknown").inc()
