"""What all tests on real servers share."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.registry import Endpoint
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import Publisher
from services.gateway import provisioner
from services.ingest import engagement_retention
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def reports_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty stream says that everybody is done; a test need not wait for its reports to age."""
    monkeypatch.setattr(engagement_retention, "MIN_AGE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def whoever_asks_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds for an answer are a promise to users, and little on a machine that does more.

    Other deadlines that a caller names are kept, in tests and services: only defaults are longer.
    """
    # A provisioner that is at work is asked now and then whether it still lives.
    monkeypatch.setattr(provisioner, "PROBE_SECONDS", PATIENCE_SECONDS)
    ask = Connection.request

    async def ask_patiently(
        self: Connection,
        endpoint: Endpoint[Any, Any],
        message: Any,
        *,
        deadline: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        wanted = max(endpoint.deadline, PATIENCE_SECONDS) if deadline is None else deadline
        return await ask(self, endpoint, message, deadline=wanted, headers=headers)

    monkeypatch.setattr(Connection, "request", ask_patiently)
    for publish in (Connection.publish, Publisher.publish, Publisher.publish_all):
        monkeypatch.setattr(publish, "__kwdefaults__", {"within": PATIENCE_SECONDS})
