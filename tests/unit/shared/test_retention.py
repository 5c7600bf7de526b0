"""Retention: ingest and analytics delete rows after the configured number of days."""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest

from services.analytics import app as analytics
from services.ingest import app as ingest


class RecordedRetention:
    """Replaces `Retention`, and records its arguments."""

    created: list[tuple[str, str, int]]

    def __init__(self, _database: object, table: str, *, column: str, days: int) -> None:
        self.created.append((table, column, days))

    async def sweep_periodically(self) -> None:
        """Do nothing."""


class App:
    """Replaces the app of a service, and ends at once."""

    async def run(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("service", "environment", "expected"),
    [
        (ingest, {}, [("audit", "at", 0)]),
        (ingest, {"AUDIT_RETENTION_DAYS": "90"}, [("audit", "at", 90)]),
        (analytics, {}, [("deliveries", "finished_at", 0)]),
        (analytics, {"DELIVERY_RETENTION_DAYS": "30"}, [("deliveries", "finished_at", 30)]),
    ],
)
async def test_a_service_keeps_rows_for_the_configured_number_of_days(
    service: ModuleType,
    environment: dict[str, str],
    expected: list[tuple[str, str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []

    def create_app(*_: object, background: list[Any], **__: object) -> App:
        started.extend(background)
        return App()

    RecordedRetention.created = []
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/hogsend")
    monkeypatch.setenv("METRICS_PORT", "0")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(service, "Retention", RecordedRetention)
    monkeypatch.setattr(service, "create_app", create_app)
    # Would configure logging in this process, for all later tests.
    monkeypatch.setattr(service.telemetry, "reporting", lambda *_: nullcontext())
    await service.run()
    assert RecordedRetention.created == expected
    sweepers = [task for task in started if getattr(task, "__name__", "") == "sweep_periodically"]
    assert sweepers == started[1:]
    assert len(started) == 1 + len(expected)


@pytest.mark.parametrize("days", [None, "400"])
async def test_ingest_keeps_events_for_the_configured_number_of_days(
    monkeypatch: pytest.MonkeyPatch, days: str | None
) -> None:
    received: list[object] = []

    def create_app(*_: object, event_retention_days: int, **__: object) -> App:
        received.append(event_retention_days)
        return App()

    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/hogsend")
    monkeypatch.setenv("METRICS_PORT", "0")
    if days is not None:
        monkeypatch.setenv("EVENT_RETENTION_DAYS", days)
    monkeypatch.setattr(ingest, "create_app", create_app)
    monkeypatch.setattr("services.ingest.app.telemetry.reporting", lambda *_: nullcontext())
    await ingest.run()
    assert received == [int(days or 0)]
