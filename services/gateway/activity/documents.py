"""The body of `GET /v1/admin/activity`."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Point(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Measurements at one time. Rates are per second. None means that it is not known."""

    webhooks: float | None = None
    """Webhooks accepted."""
    refused: float | None = None
    """Webhooks refused for their secret or signature."""
    stored: float | None = None
    """Events stored for the first time."""
    duplicates: float | None = None
    """Messages whose event was already stored."""
    announced: float | None = None
    """Events published, including repeats."""
    dead_letters: float | None = None
    """Messages that ingest could not process and stored as dead letters."""
    delivered: float | None = None
    """Events accepted by a destination. An event that two destinations accept counts twice."""
    failed: float | None = None
    """Events whose delivery to a destination was abandoned."""
    retried: float | None = None
    """Events sent to a destination again after a failure."""
    p50_seconds: float | None = None
    """Median time from receipt to announcement. None also while nothing is announced."""
    p99_seconds: float | None = None
    """99th percentile of the time from receipt to announcement."""
    spooled: int | None = None
    """Webhooks in the spool."""
    spool_bytes: int | None = None
    """Bytes of the spool on disk."""
    waiting: int | None = None
    """Webhooks that wait for ingest."""
    waited_seconds: float | None = None
    """Age of the oldest webhook that waits for ingest."""
    undelivered: int | None = None
    """Events that wait for a destination."""


class Series(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields of `Point` over time. All lists have the same length, the oldest entry first."""

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
    """Number of processes of each service that replied to the latest query."""

    gateway: int = 0
    ingest: int = 0
    analytics: int = 0


class ActivityReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The activity of the services, as measured by this gateway since it started."""

    at: datetime | None
    """Time of the latest query; null before the first one."""
    every_seconds: float
    """Interval between the entries of `series`."""
    since: datetime | None
    """Time of the first entry, at most an hour ago."""
    instances: Instances
    latest: Point
    """The last entry of `series`."""
    series: Series
