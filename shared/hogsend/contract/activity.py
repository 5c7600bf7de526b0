"""What a process has done since it started, as its answer to `$SRV.STATS` says (NATS ADR-32).

Numbers only: every user that may ask `$SRV.STATS` sees them. They are those of the metrics, for
pages that have no Prometheus to ask.
"""

from __future__ import annotations

from hogsend.contract.base import Message

ASK_ACTIVITY = "$SRV.STATS"
"""The subject on which every process of every service answers."""


class Distribution(Message, frozen=True):
    """How long something took, as a histogram."""

    bounds: list[float]
    """Upper bounds in seconds, ascending."""
    counts: list[int]
    """How many took at most as long; the last entry, without a bound, counts all."""


class GatewayActivity(Message, frozen=True):
    """Webhooks."""

    webhooks: int
    """Accepted, in JetStream or in the spool."""
    refused: int
    """Refused for their secret or signature."""
    spooled: int
    """In the spool now."""
    spool_bytes: int


class IngestActivity(Message, frozen=True):
    """From the queue to announced events."""

    stored: int
    duplicates: int
    announced: int
    dead_letters: int
    waiting: int
    """Webhooks in the queue now."""
    waited_seconds: float
    """How long the oldest of them has waited."""
    announced_seconds: Distribution
    """From the receipt of an event to its announcement."""


class AnalyticsActivity(Message, frozen=True):
    """To PostHog and other destinations."""

    delivered: int
    failed: int
    retried: int
    waiting: int
    """Events in streams and memory that are not sent yet."""


class Activity(Message, frozen=True):
    """One of these, by service; none for a service that does not count."""

    gateway: GatewayActivity | None = None
    ingest: IngestActivity | None = None
    analytics: AnalyticsActivity | None = None
