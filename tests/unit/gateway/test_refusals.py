"""Webhooks refused for their secret: all are counted, few are logged."""

from __future__ import annotations

from typing import cast

from litestar.types import Scope
from structlog.testing import capture_logs

from services.gateway.client_address import ClientAddresses
from services.gateway.webhooks.refusals import LINES_A_MINUTE, REFUSED, Refusals
from tests.unit.gateway.fakes import FakeGateway

URL = "/v1/webhooks/posthog"


def count(reason: str) -> float:
    return REFUSED.labels(reason)._value.get()


async def test_a_refused_webhook_is_counted_and_its_secret_is_not_logged(
    gateway: FakeGateway,
) -> None:
    before = count("wrong"), count("none")
    with capture_logs() as logs:
        await gateway.http.post(URL, headers={"x-posthog-webhook-secret": "guess"}, json={})
        await gateway.http.post(URL, json={})
    assert (count("wrong"), count("none")) == (before[0] + 1, before[1] + 1)
    assert "guess" not in str(logs)


def test_each_client_is_logged_once_a_minute_up_to_a_number_of_lines() -> None:
    refusals = Refusals(ClientAddresses())
    with capture_logs() as logs:
        for number in range(100):
            scope = {"type": "http", "client": (f"192.0.2.{number // 3}", 1), "headers": []}
            refusals.mismatch(cast("Scope", scope), presented=True)
    assert len(logs) == LINES_A_MINUTE
    assert [line["address"] for line in logs[:2]] == ["192.0.2.0", "192.0.2.1"]
    assert [line["refused"] for line in logs[:2]] == [1, 3]
