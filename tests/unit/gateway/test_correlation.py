"""The id of a request is passed on to the requests and messages that it causes."""

from __future__ import annotations

import asyncio
import json

import httpx

from hogsend.contract.headers import CORRELATION_ID
from hogsend.transport.correlation import correlation_id
from tests.unit.gateway.fakes import SECRET, FakeGateway, bearer

WEBHOOK = {"event": {"event": "signed_up", "distinct_id": "u_42"}}


async def test_a_request_to_a_service_carries_the_id_of_the_http_request(
    gateway: FakeGateway,
) -> None:
    headers = {**bearer(), "X-Request-Id": "r-1"}
    await gateway.http.get("/v1/admin/events", headers=headers)
    without_id = await gateway.http.get("/v1/admin/events", headers=bearer())
    ids = [request.correlation_id for request in gateway.bus.sent]
    assert ids == ["r-1", without_id.headers["x-request-id"]]


async def test_concurrent_requests_keep_their_own_ids(gateway: FakeGateway) -> None:

    async def send(number: int) -> httpx.Response:
        headers = {**bearer(), "X-Request-Id": f"r-{number}"}
        return await gateway.http.get("/v1/admin/capabilities", headers=headers)

    await asyncio.gather(*(send(number) for number in range(20)))
    ids = [request.correlation_id for request in gateway.bus.sent]
    assert sorted(map(str, ids)) == sorted(f"r-{number}" for number in range(20) for _ in "ab")


async def test_the_correlation_id_is_unset_after_its_request(gateway: FakeGateway) -> None:
    await gateway.http.get("/v1/admin/events", headers=bearer())
    assert correlation_id.get() is None


async def test_a_queued_webhook_and_an_audit_entry_carry_the_id_of_their_request(
    gateway: FakeGateway,
) -> None:
    delivered = {"x-posthog-webhook-secret": SECRET, "X-Request-Id": "r-1"}
    await gateway.http.post("/v1/webhooks/posthog", json=WEBHOOK, headers=delivered)
    changed = {**bearer(), "X-Request-Id": "r-2"}
    await gateway.http.delete("/v1/admin/deadletters/1", headers=changed)
    webhook, entry = gateway.bus.published.messages
    assert webhook.headers[CORRELATION_ID] == "r-1"
    assert entry.headers[CORRELATION_ID] == "r-2"
    assert json.loads(entry.body)["requestId"] == "r-2"
