"""Metrics of a healthy stack, and the changes to them that make each alert fire."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Grows:
    """A number that grows by `by` with each scrape."""

    by: float
    start: float = 0.0


@dataclass(frozen=True)
class Ago:
    """A Unix time that is always `seconds` ago."""

    seconds: float


Value: TypeAlias = float | Grows | Ago
Series: TypeAlias = tuple[str, str]
"""The service that exports a series, and the name of the series with its labels."""

GATEWAY, CREDENTIALS, PROVISIONER, INGEST, ANALYTICS = SERVICES = (
    "gateway",
    "credentials",
    "provisioner",
    "ingest",
    "analytics",
)
SAME_IN_EVERY_REPLICA = frozenset({CREDENTIALS, INGEST})
"""Services whose replicas observe the same state, and so export the same values."""

ACCEPTED = (GATEWAY, 'hogsend_webhooks_accepted_total{to="jetstream"}')
REFUSED = (GATEWAY, 'hogsend_webhooks_refused_total{reason="wrong"}')
SPOOLED = (GATEWAY, "hogsend_spool_deliveries")
SPOOL_BYTES = (GATEWAY, "hogsend_spool_bytes")
SET_ASIDE = (GATEWAY, "hogsend_spool_set_aside")
WORKERS_UP = (GATEWAY, "hogsend_gateway_workers_up")
DISK_FREE = (GATEWAY, "hogsend_spool_disk_free_bytes")
NOTICES = (GATEWAY, "hogsend_operator_notices_waiting")
DISABLED = (GATEWAY, 'hogsend_posthog_destination_state{state="disabled_by_posthog"}')
LIVE = (GATEWAY, 'hogsend_posthog_destination_state{state="live"}')
CONNECTED = (GATEWAY, "hogsend_bus_connected")
NEEDS_RECONNECT = (
    CREDENTIALS,
    'hogsend_credential_state{provider="posthog",state="needs_reconnect"}',
)
REFRESH_FAILING = (
    CREDENTIALS,
    'hogsend_credential_state{provider="posthog",state="refresh_failing"}',
)
WAITING = (INGEST, 'hogsend_stream_messages{stream="WEBHOOKS"}')
OLDEST = (INGEST, 'hogsend_stream_oldest_timestamp_seconds{stream="WEBHOOKS"}')
DEAD_LETTERS = (INGEST, 'hogsend_stream_messages{stream="DEADLETTER"}')
STREAM_BYTES = (INGEST, 'hogsend_stream_bytes{stream="WEBHOOKS"}')
JETSTREAM_BYTES = (INGEST, 'hogsend_jetstream_bytes{storage="file"}')
POSTHOG_SUCCEEDED = (ANALYTICS, 'hogsend_posthog_requests_total{area="capture",status="200"}')
POSTHOG_FAILED = (ANALYTICS, 'hogsend_posthog_requests_total{area="capture",status="error"}')
DELIVERED = (
    ANALYTICS,
    'hogsend_delivery_events_total{source="destination",destination="d-1",outcome="delivered"}',
)
RETRIED = (ANALYTICS, 'hogsend_delivery_retries_total{source="destination",destination="d-1"}')
DELIVERY_LAG = (
    ANALYTICS,
    'hogsend_delivery_lag_seconds{source="destination",destination="d-1"}',
)

HEALTHY: Mapping[Series, Value] = {
    ACCEPTED: Grows(100),
    REFUSED: 0,
    SPOOLED: 0,
    SPOOL_BYTES: 79,
    (GATEWAY, "hogsend_spool_limit_bytes"): 100,
    SET_ASIDE: 0,
    (GATEWAY, "hogsend_spool_files_set_aside"): 0,
    WORKERS_UP: 2,
    (GATEWAY, "hogsend_gateway_workers"): 2,
    DISK_FREE: 11,
    (GATEWAY, "hogsend_spool_disk_bytes"): 100,
    NOTICES: 0,
    DISABLED: 0,
    LIVE: 1,
    CONNECTED: 1,
    NEEDS_RECONNECT: 0,
    (CREDENTIALS, 'hogsend_credential_state{provider="posthog",state="unreadable"}'): 0,
    REFRESH_FAILING: 0,
    # Many webhooks wait, and their number falls.
    WAITING: Grows(-1, 1_000_000),
    OLDEST: Ago(200),
    DEAD_LETTERS: 0,
    STREAM_BYTES: 79,
    (INGEST, 'hogsend_stream_limit_bytes{stream="WEBHOOKS"}'): 100,
    (INGEST, 'hogsend_jetstream_bytes{storage="memory"}'): 1_000,
    JETSTREAM_BYTES: 79,
    (INGEST, 'hogsend_jetstream_limit_bytes{storage="file"}'): 100,
    POSTHOG_SUCCEEDED: Grows(10),
    POSTHOG_FAILED: Grows(1),
    # Some deliveries are retried while others are accepted.
    DELIVERED: Grows(10),
    RETRIED: Grows(1),
    DELIVERY_LAG: 899,
}

CHANGES_BY_ALERT: Mapping[str, Mapping[Series, Value | None]] = {
    "HogsendServiceDown": {(PROVISIONER, "up"): None},
    "HogsendLagGrows": {WAITING: Grows(1, 2_000_000)},
    "HogsendEventsLate": {OLDEST: Ago(301)},
    "HogsendSpoolUsed": {SPOOLED: 1},
    "HogsendSpoolNearlyFull": {SPOOL_BYTES: 81},
    "HogsendSpoolSetAside": {SET_ASIDE: 1},
    "HogsendWorkersMissing": {WORKERS_UP: 1},
    "HogsendDeadLetters": {DEAD_LETTERS: 1},
    "HogsendNeedsReconnect": {NEEDS_RECONNECT: 1, REFRESH_FAILING: 1},
    "HogsendRefreshFailing": {REFRESH_FAILING: 1},
    "HogsendNothingReceived": {ACCEPTED: Grows(0)},
    "HogsendWebhooksRefused": {REFUSED: Grows(1)},
    "HogsendStreamNearlyFull": {STREAM_BYTES: 81},
    "HogsendJetStreamNearlyFull": {JETSTREAM_BYTES: 81},
    "HogsendBusDisconnected": {CONNECTED: 0},
    "HogsendPostHogFailing": {POSTHOG_FAILED: Grows(20)},
    "HogsendDestinationFailing": {DELIVERED: Grows(0)},
    "HogsendDeliveryLate": {DELIVERY_LAG: 901},
    "HogsendDestinationDisabled": {DISABLED: 1, LIVE: 0},
    "HogsendDiskNearlyFull": {DISK_FREE: 9},
    "HogsendOperatorNotTold": {NOTICES: 1},
}
"""The series that differ from `HEALTHY` while an alert fires. None: a service cannot be scraped."""


@dataclass
class Stack:
    """Metrics of two replicas of each service, whose gateways have two workers each.

    A change applies to the first replica alone, unless all replicas observe it.
    """

    changed: Mapping[Series, Value | None] = field(default_factory=dict)
    _counted: dict[tuple[int, Series], float] = field(default_factory=dict)

    def text(self, service: str, replica: int) -> str | None:
        """Return the metrics of one replica; None if it cannot be scraped."""
        changed = self.changed if replica == 0 or service in SAME_IN_EVERY_REPLICA else {}
        changed = {**changed, **self._shared()}
        if (service, "up") in changed:
            return None
        lines = []
        for series, healthy in HEALTHY.items():
            if series[0] != service:
                continue
            value = changed.get(series, healthy)
            assert value is not None
            number = self._number(value, replica, series)
            lines += [f"{name} {number}" for name in _exposed(series[1], service)]
        return "".join(f"{line}\n" for line in lines)

    def _shared(self) -> Mapping[Series, Value | None]:
        """Return the changes that apply to both gateways, or to the leader of analytics."""
        return {
            series: value
            for series, value in self.changed.items()
            if series in {ACCEPTED, DISABLED, LIVE, DELIVERED, POSTHOG_FAILED}
        }

    def _number(self, value: Value, replica: int, series: Series) -> float:
        if isinstance(value, Ago):
            return time.time() - value.seconds
        if not isinstance(value, Grows):
            return value
        before = self._counted.get((replica, series), value.start)
        # A gauge jumps to its new start value; a counter continues from its last value.
        start = max(before, value.start) if value.by >= 0 else min(before, value.start)
        self._counted[replica, series] = start + value.by
        return start + value.by


def _exposed(name: str, service: str) -> list[str]:
    """Return the exported names of a series: one for each worker where workers export it."""
    if service != GATEWAY or name.startswith("hogsend_gateway_workers"):
        return [name]
    metric, _, labels = name.removesuffix("}").partition("{")
    prefix = f"{labels}," if labels else ""
    return [f'{metric}{{{prefix}worker="{number}"}}' for number in (1, 2)]
