"""Counts of a service's requests, for `$SRV.STATS` (NATS ADR-32) and Prometheus."""

from __future__ import annotations

from prometheus_client import Histogram

from hogsend.service import metrics


class EndpointStats:
    """Counts of one endpoint since its service started."""

    def __init__(self, verb: str) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0
        self._verb = verb
        self._seconds: dict[str, Histogram] = {}

    def record(self, seconds: float, code: str | None, text: str) -> None:
        """Count a request that was answered.

        Args:
            seconds: how long its handler took.
            code: error code of the reply; None for a success.
            text: error text of the reply.
        """
        self.requests += 1
        self.processing_ns += round(seconds * 1e9)
        if code is not None:
            self.errors += 1
            self.last_error = f"{code}:{text}"
        label = code or "ok"
        histogram = self._seconds.get(label)
        if histogram is None:
            histogram = self._seconds[label] = metrics.RPC_SECONDS.labels(self._verb, label)
        histogram.observe(seconds)


class ServiceStats:
    """Counts of every endpoint of one service."""

    def __init__(self) -> None:
        self._endpoints: dict[str, EndpointStats] = {}

    def of(self, subject: str) -> EndpointStats:
        """Return the stats of the endpoint with this subject."""
        stats = self._endpoints.get(subject)
        if stats is None:
            stats = self._endpoints[subject] = EndpointStats(subject.rpartition(".")[2])
        return stats
