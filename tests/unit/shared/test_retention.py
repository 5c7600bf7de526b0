"""How long a service keeps rows is what its settings say."""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest

from services.analytics import app as analytics
from services.ingest import app as ingest


class Recorded:
    """Stands in for `Retention`."""

    made: list[tuple[str, str, int]]

    def __init__(self, _database: object, table: str, *, column: str, days: int) -> None:
        self.made.append((table, column, days))

    async def sweep_periodically(self) -> None:
        """Do nothing."""


class App:
    """Stands in for the service, and ends at once."""

    async def run(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("service", "environment", "kept"),
    [
        (ingest, {}, [("audit", "at", 0)]),
        (ingest, {"AUDIT_RETENTION_DAYS": "90"}, [("audit", "at", 90)]),
        (analytics, {}, [("deliveries", "finished_at", 0)]),
        (analytics, {"DELIVERY_RETENTION_DAYS": "30"}, [("deliveries", "finished_at", 30)]),
    ],
)
async def test_a_service_keeps_each_table_for_as_long_as_is_set(
    service: ModuleType,
    environment: dict[str, str],
    kept: list[tuple[str, str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []

    def create_app(*_: object, background: list[Any], **__: object) -> App:
        started.extend(background)
        return App()

    Recorded.made = []
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/hogsend")
    monkeypatch.setenv("METRICS_PORT", "0")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(service, "Retention", Recorded)
    monkeypatch.setattr(service, "create_app", create_app)
    # It would set up the logs of this process, for all tests that follow.
    monkeypatch.setattr(service.telemetry, "reporting", lambda *_: nullcontext())
    await service.run()
    assert Recorded.made == kept
    assert [
        work for work in started if getattr(work, "__name__", "") == "sweep_periodically"
    ] == started[1:]
    assert len(started) == 1 + len(kept)


@pytest.mark.parametrize("days", [None, "400"])
async def test_ingest_keeps_events_for_as_long_as_is_set(
    monkeypatch: pytest.MonkeyPatch, days: str | None
) -> None:
    told: list[object] = []

    def create_app(*_: object, event_retention_days: int, **__: object) -> App:
        told.append(event_retention_days)
        return App()

    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/hogsend")
    monkeypatch.setenv("METRICS_PORT", "0")
    if days is not None:
        monkeypatch.setenv("EVENT_RETENTION_DAYS", days)
    monkeypatch.setattr(ingest, "create_app", create_app)
    monkeypatch.setattr("services.ingest.app.telemetry.reporting", lambda *_: nullcontext())
    await ingest.run()
    assert told == [int(days or 0)]
