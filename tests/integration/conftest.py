"""What all tests on real servers share."""

from __future__ import annotations

import pytest

from services.ingest import engagement_retention


@pytest.fixture(autouse=True)
def reports_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty stream says that everybody is done; a test need not wait for its reports to age."""
    monkeypatch.setattr(engagement_retention, "KEPT_SECONDS", 0.0)
