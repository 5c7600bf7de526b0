"""The output for a backfill."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from cli.backfill import report
from hogsend.contract.backfills import Backfill

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_it_is_said_which_event_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(report, "out", Console(file=shown, width=200))
    found = Backfill(
        *("1", "finished", NOON, NOON, [], True, NOON, NOON, NOON, 2, 2, 1, 0, 1),
        left_out="The event 0199 is too large to be read from PostHog.",
    )
    report.show(found)
    assert "The event 0199 is too large" in shown.getvalue()
