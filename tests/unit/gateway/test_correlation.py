"""The id of a request goes along with what it causes."""

from __future__ import annotations

import asyncio
import json

import httpx

from hogsend.contract.headers import CORRELATION_ID
from hogsend.transport.correlation import correlation_id
from tests.unit.gateway.fakes import SECRET, FakeGateway, bearer

WEBHOOK = {"event": {"event": "signed_up", "distinct_id": "u_42"}}


async def test_a_service_is_asked_with_the_id_of_the_request(gateway: FakeGateway) -> None:
    given = {**bearer(), "X-Request-Id": "r-1"}
    await gateway.http.get("/v1/admin/events", headers=given)
    made = await gateway.http.get("/v1/admin/events", headers=bearer())
    ids = [question.correlation_id for question in gateway.bus.sent]
    assert ids == ["r-1", made.headers["x-request-id"]]


async def test_requests_at_once_keep_their_ids_apart(gateway: FakeGateway) -> None:

    async def ask(number: int) -> httpx.Response:
        headers = {**bearer(), "X-Request-Id": f"r-{number}"}
        return await gateway.http.get("/v1/admin/capabilities", headers=headers)

    await asyncio.gather(*(ask(number) for number in range(20)))
    ids = [question.correlation_id for question in gateway.bus.sent]
    assert sorted(map(str, ids)) == sorted(f"r-{number}" for number in range(20) for _ in "ab")


async def test_the_id_ends_with_its_request(gateway: FakeGateway) -> None:
    await gateway.http.get("/v1/admin/events", headers=bearer())
    assert correlation_id.get() is None


async def test_a_queued_webhook_and_an_audit_entry_carry_it(gateway: FakeGateway) -> None:
    delivered = {"x-posthog-webhook-secret": SECRET, "X-Request-Id": "r-1"}
    await gateway.http.post("/v1/webhooks/posthog", json=WEBHOOK, headers=delivered)
    changed = {**bearer(), "X-Request-Id": "r-2"}
    await gateway.http.delete("/v1/admin/deadletters/1", headers=changed)
    webhook, entry = gateway.bus.published.messages
    assert webhook.headers[CORRELATION_ID] == "r-1"
    assert entry.headers[CORRELATION_ID] == "r-2"
    assert json.loads(entry.body)["requestId"] == "r-2"
