"""Logs and counts the events of a service's connection to NATS."""

from __future__ import annotations

import structlog

from hogsend.contract.errors import Forbidden
from hogsend.service import metrics
from hogsend.transport.log_once import LogOnce

log = structlog.get_logger(__name__)

MAX_LOGGED_REFUSALS = 100
"""Limit of the different permission errors that are logged: some contain a new subject each time.
The count starts again when the connection does."""
_REFUSAL = "permissions violation"
_STATES = {"connected": True, "reconnected": True, "lame duck": True, "disconnected": False}
"""The states of a connection, and whether it is connected in each."""


class BusLog:
    """Logs the events of one connection; its method `observe` is the connection's observer."""

    def __init__(self) -> None:
        self._refusals = LogOnce(MAX_LOGGED_REFUSALS)

    def observe(self, what: str, detail: str) -> None:
        """Log and count one event.

        Args:
            what: `error`, the new state of the connection, or the kind of another event.
            detail: the error, the server's address, or a description.
        """
        metrics.BUS_EVENTS.labels(what).inc()
        if what == "error":
            self._error(detail)
            return
        if what in {"disconnected", "subscribed again"}:
            # The permissions may be different from now on, on another server or on this one.
            self._refusals.reset()
        if what not in _STATES:
            log.info("bus", what=what, detail=detail)
            return
        metrics.BUS_CONNECTED.set(_STATES[what])
        log.info("bus", state=what, server=detail)

    def _error(self, detail: str) -> None:
        if _REFUSAL not in detail.lower():
            log.warning("NATS reports an error", detail=detail)
        # Refused requests are retried, some of them twice a second.
        elif self._refusals.is_new(detail):
            log.warning("NATS reports an error", detail=detail, fix=Forbidden.fix)
