"""What a service logs and counts of its connection to NATS."""

from __future__ import annotations

import structlog

from hogsend.contract.errors import Forbidden
from hogsend.service import metrics

log = structlog.get_logger(__name__)

MOST_REFUSALS = 100
"""Different refusals that are logged of one connection: some name a new subject each time."""
_REFUSAL = "permissions violation"


class BusLog:
    """Observes one connection."""

    def __init__(self) -> None:
        """Begin with one on which nothing was refused."""
        self._refused: set[str] = set()

    def observe(self, what: str, detail: str) -> None:
        """Take note of what happened to the connection.

        Args:
            what: `error`, or the state that the connection has now.
            detail: the error, or the server's address.
        """
        metrics.BUS_EVENTS.labels(what).inc()
        if what == "error":
            self._error(detail)
            return
        if what == "disconnected":
            # The next server may be configured in another way.
            self._refused.clear()
        metrics.BUS_CONNECTED.set(what != "disconnected")
        log.info("bus", state=what, server=detail)

    def _error(self, detail: str) -> None:
        if _REFUSAL not in detail.lower():
            log.warning("NATS reports an error", detail=detail)
        elif detail not in self._refused and len(self._refused) < MOST_REFUSALS:
            # What is refused is asked for again, some of it twice a second.
            self._refused.add(detail)
            log.warning("NATS reports an error", detail=detail, fix=Forbidden.fix)
