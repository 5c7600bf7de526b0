"""Counters of a process since its start, in its reply to `$SRV.STATS` (NATS ADR-32).

They hold numbers only, because every user that may request `$SRV.STATS` can read them. They have
the values of the metrics, for pages of the console, which cannot query Prometheus.
"""

from __future__ import annotations

from hogsend.contract.base import Message

ACTIVITY_SUBJECT = "$SRV.STATS"
"""The request subject to which every process of every service replies."""


class Distribution(Message, frozen=True):
    """A histogram of durations."""

    bounds: list[float]
    """Upper bounds of the buckets in seconds, ascending."""
    counts: list[int]
    """Cumulative counts: the number of durations up to each bound, and at the end of all."""


class GatewayActivity(Message, frozen=True):
    """Counters of the gateway's webhooks."""

    webhooks: int
    """Accepted webhooks, in JetStream or in the spool."""
    refused: int
    """Webhooks that were refused because of their secret or signature."""
    spooled: int
    """Webhooks in the spool now."""
    spool_bytes: int


class IngestActivity(Message, frozen=True):
    """Counters of ingest, from queued webhooks to published events."""

    stored: int
    duplicates: int
    announced: int
    """Published events."""
    dead_letters: int
    waiting: int
    """Webhooks in the queue now."""
    waited_seconds: float
    """How long the oldest webhook in the queue has waited."""
    announced_seconds: Distribution
    """From the receipt of an event to its publication."""


class AnalyticsActivity(Message, frozen=True):
    """Counters of deliveries to PostHog and other destinations."""

    delivered: int
    failed: int
    retried: int
    waiting: int
    """Events in streams and memory that are not sent yet."""


class Activity(Message, frozen=True):
    """The counters of one process, in the field of its service. Some services have no counters."""

    gateway: GatewayActivity | None = None
    ingest: IngestActivity | None = None
    analytics: AnalyticsActivity | None = None
