"""Fixtures that all tests with real servers share."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.registry import Endpoint
from hogsend.transport import request_watch
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import Publisher
from services.gateway.routes import provisioning
from services.ingest import engagement_retention
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def delete_reports_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete engagement reports as soon as every consumer has acknowledged them.

    A test then sees an empty stream without a wait for the minimum age of reports.
    """
    monkeypatch.setattr(engagement_retention, "MIN_AGE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def use_long_default_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extend the default deadlines of requests and publishes.

    The defaults, such as two seconds for a reply, are too short for a busy test machine. A deadline
    that a caller passes is kept.
    """
    monkeypatch.setattr(provisioning, "PROBE_SECONDS", PATIENCE_SECONDS)
    # How long a service may take to reply to pings about a slow request.
    monkeypatch.setattr(request_watch, "SILENT_SECONDS", PATIENCE_SECONDS)
    request = Connection.request

    async def request_with_long_default(
        self: Connection,
        endpoint: Endpoint[Any, Any],
        message: Any,
        *,
        deadline: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        if deadline is None:
            deadline = max(endpoint.deadline, PATIENCE_SECONDS)
        return await request(self, endpoint, message, deadline=deadline, headers=headers)

    monkeypatch.setattr(Connection, "request", request_with_long_default)
    for publish in (Connection.publish, Publisher.publish, Publisher.publish_all):
        monkeypatch.setattr(publish, "__kwdefaults__", {"within": PATIENCE_SECONDS})


@pytest.fixture
def frequent_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ping every 20 ms while a request is unanswered, and give up after 50 pings without reply."""
    monkeypatch.setattr(request_watch, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(request_watch, "PING_SECONDS", 0.02)
    monkeypatch.setattr(request_watch, "SILENT_SECONDS", 1.0)
