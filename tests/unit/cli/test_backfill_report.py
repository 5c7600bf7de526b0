"""The output for a backfill."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from cli.backfill import report
from hogsend.contract.backfills import Backfill

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_report_of_a_backfill_names_the_skipped_event(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(report, "out", Console(file=shown, width=200))
    backfill = Backfill(
        *("1", "finished", NOON, NOON, [], True, NOON, NOON, NOON, 2, 2, 1, 0, 1),
        left_out="The event 0199 is too large to be read from PostHog.",
    )
    report.show(backfill)
    assert "The event 0199 is too large" in shown.getvalue()
