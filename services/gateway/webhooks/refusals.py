"""Counts webhooks that are refused for their secret or signature, and logs some of them."""

from __future__ import annotations

import structlog
from litestar.types import Scope
from prometheus_client import Counter

from hogsend.service.metrics import initialize_at_zero
from services.gateway.client_address import ClientAddresses, client_key
from services.gateway.failure_counts import FailureCounts
from services.gateway.signatures import SignatureCheck

log = structlog.get_logger(__name__)

REFUSED = Counter(
    "hogsend_webhooks_refused",
    "Webhooks refused for their secret or signature, by what was wrong",
    ["reason"],
)
initialize_at_zero(
    REFUSED,
    "wrong",
    "none",
    "unknown",
    "signature_absent",
    "signature_expired",
    "signature_wrong",
)
LINES_A_MINUTE = 10
"""Log lines a minute, at most one for each address. The metric counts all refusals."""


class Refusals:
    """Counts refused webhooks, and logs them at a limited rate."""

    def __init__(self, addresses: ClientAddresses) -> None:
        """Use `addresses` to find the clients' addresses."""
        self._addresses = addresses
        self._lines = FailureCounts(LINES_A_MINUTE)
        self._clients = FailureCounts(1)
        self._since_last_line = 0

    def mismatch(self, scope: Scope, *, presented: bool) -> None:
        """Record a webhook with a wrong secret, or with none."""
        self._record(
            scope,
            "wrong" if presented else "none",
            "a webhook was refused for its secret: see that PostHog's destination sends the one "
            "that is in force (`hogsend doctor`)",
        )

    def signature(self, scope: Scope, check: SignatureCheck) -> None:
        """Record a webhook whose signature was wrong, too old, or absent."""
        self._record(
            scope,
            f"signature_{check.name.lower()}",
            "a webhook was refused for its signature: see that signing_secret of PostHog's "
            "destination is POSTHOG_SIGNING_SECRET, and that both clocks are right",
        )

    def unknown(self) -> None:
        """Record a webhook that could not be checked, because the secret or key is unknown."""
        REFUSED.labels("unknown").inc()

    def _record(self, scope: Scope, reason: str, text: str) -> None:
        REFUSED.labels(reason).inc()
        address = self._addresses.of(scope)
        client = client_key(address)
        self._since_last_line += 1
        if self._clients.is_over(client) or self._lines.is_over(""):
            return
        self._clients.add(client)
        self._lines.add("")
        log.warning(
            text,
            address=address,
            reason=reason,
            refused=self._since_last_line,
        )
        self._since_last_line = 0
