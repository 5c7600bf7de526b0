"""What a service logs and counts of its connection to NATS."""

from __future__ import annotations

import structlog

from hogsend.contract.errors import Forbidden
from hogsend.service import metrics
from hogsend.transport.log_once import LogOnce

log = structlog.get_logger(__name__)

MOST_REFUSALS = 100
"""Different refusals that are logged of one connection: some name a new subject each time."""
_REFUSAL = "permissions violation"
_STATES = {"connected": True, "reconnected": True, "lame duck": True, "disconnected": False}
"""Whether there is a connection in each state."""


class BusLog:
    """Observes one connection."""

    def __init__(self) -> None:
        """Begin with one on which nothing was refused."""
        self._refusals = LogOnce(MOST_REFUSALS)

    def observe(self, what: str, detail: str) -> None:
        """Take note of what happened.

        Args:
            what: `error`, the state that the connection has now, or what something else is about.
            detail: the error, the server's address, or what happened.
        """
        metrics.BUS_EVENTS.labels(what).inc()
        if what == "error":
            self._error(detail)
            return
        if what in {"disconnected", "subscribed again"}:
            # The next server may be configured in another way, and so may this one by now.
            self._refusals.reset()
        if what not in _STATES:
            log.info("bus", what=what, detail=detail)
            return
        metrics.BUS_CONNECTED.set(_STATES[what])
        log.info("bus", state=what, server=detail)

    def _error(self, detail: str) -> None:
        if _REFUSAL not in detail.lower():
            log.warning("NATS reports an error", detail=detail)
        # What is refused is asked for again, some of it twice a second.
        elif self._refusals.is_new(detail):
            log.warning("NATS reports an error", detail=detail, fix=Forbidden.fix)
