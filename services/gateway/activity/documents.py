"""What `GET /v1/admin/activity` says."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Point(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was measured at one time; None for what no service reported on. Rates are a second."""

    webhooks: float | None = None
    """Webhooks accepted."""
    refused: float | None = None
    """Webhooks refused for their secret or signature."""
    stored: float | None = None
    """Events stored for the first time."""
    duplicates: float | None = None
    """Messages whose event was stored already."""
    announced: float | None = None
    """Events published, repeats included."""
    dead_letters: float | None = None
    """Messages that ingest replaced by a dead letter."""
    delivered: float | None = None
    """Events taken by a destination; one that two take counts twice."""
    failed: float | None = None
    """Events that a destination was given up for."""
    retried: float | None = None
    """Events sent again after a failure."""
    p50_seconds: float | None = None
    """From receipt to announcement, the median; None as well while nothing is announced."""
    p99_seconds: float | None = None
    """The same, which one of a hundred exceeds."""
    spooled: int | None = None
    """Webhooks in the spool."""
    spool_bytes: int | None = None
    waiting: int | None = None
    """Webhooks that wait for ingest."""
    waited_seconds: float | None = None
    """How long the oldest of them has waited."""
    undelivered: int | None = None
    """Events that wait for a destination."""


class Series(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The same over time: as many entries in each list, the earliest first."""

    webhooks: list[float | None]
    refused: list[float | None]
    stored: list[float | None]
    duplicates: list[float | None]
    announced: list[float | None]
    dead_letters: list[float | None]
    delivered: list[float | None]
    failed: list[float | None]
    retried: list[float | None]
    p50_seconds: list[float | None]
    p99_seconds: list[float | None]
    spooled: list[int | None]
    spool_bytes: list[int | None]
    waiting: list[int | None]
    waited_seconds: list[float | None]
    undelivered: list[int | None]


class Instances(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that answered last."""

    gateway: int = 0
    ingest: int = 0
    analytics: int = 0


class ActivityReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the services did, as this gateway has seen it since it started."""

    at: datetime | None
    """When they were asked last; null before the first time."""
    every_seconds: float
    """From one entry of `series` to the next."""
    since: datetime | None
    """Time of the first entry, an hour ago at most."""
    instances: Instances
    latest: Point
    series: Series
