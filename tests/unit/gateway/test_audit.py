"""The audit trail: which admin requests are recorded, and with what."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
from structlog.testing import capture_logs

from hogsend.contract import subjects
from hogsend.contract.audit import AuditEntry
from hogsend.contract.credentials import CREDENTIALS_DELETE, Deleted
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import MESSAGE_ID
from tests.unit.gateway.fakes import INGEST_KEY, READ_KEY, FakeGateway, bearer

CREDENTIAL = "/v1/admin/provider-credentials/posthog"
LETTER = "/v1/admin/deadletters/7"


def entries(gateway: FakeGateway) -> list[AuditEntry]:
    messages = gateway.bus.published.messages
    assert {message.subject for message in messages} <= {subjects.AUDIT}
    return [msgspec.json.decode(message.body, type=AuditEntry) for message in messages]


def outcomes(gateway: FakeGateway) -> list[tuple[str, str, str, int]]:
    return [(one.actor, one.action, one.resource, one.status) for one in entries(gateway)]


async def test_what_may_change_something_is_recorded_with_its_outcome(
    gateway: FakeGateway,
) -> None:
    gateway.bus.answer(CREDENTIALS_DELETE, Deleted())
    await gateway.http.delete(CREDENTIAL, headers=bearer())
    await gateway.http.put(CREDENTIAL, json={"payload": {}}, headers=bearer())
    await gateway.http.delete(CREDENTIAL, headers=bearer(READ_KEY))
    await gateway.http.delete(LETTER, headers=bearer(INGEST_KEY))
    await gateway.http.post("/v1/admin/deadletters/replay", json={"all": True}, headers=bearer())
    assert outcomes(gateway) == [
        ("full-admin", "provider-credentials.delete", "posthog", 200),
        ("full-admin", "provider-credentials.put", "posthog", 400),
        ("read", "provider-credentials.delete", "posthog", 403),
        ("ingest", "deadletters.delete", "7", 403),
        ("full-admin", "deadletters.post", "replay", 503),
    ]


async def test_neither_looking_nor_a_wrong_key_is_recorded(gateway: FakeGateway) -> None:
    await gateway.http.get(CREDENTIAL, headers=bearer())
    await gateway.http.delete(CREDENTIAL, headers=bearer("guess"))
    await gateway.http.delete(CREDENTIAL)
    await gateway.http.post("/v1/events", json={}, headers=bearer())
    assert entries(gateway) == []


async def test_an_entry_says_who_and_when_and_never_what_was_sent(gateway: FakeGateway) -> None:
    headers = {**bearer(), "X-Request-Id": "r-1"}
    secret = {"payload": {"accessToken": "pha_a"}}
    await gateway.http.put(CREDENTIAL, json=secret, headers=headers)
    (entry,) = entries(gateway)
    (message,) = gateway.bus.published.messages
    assert (entry.request_id, entry.address) == ("r-1", "127.0.0.1")
    assert entry.at.tzinfo is not None
    assert message.headers[MESSAGE_ID] == str(entry.id)
    assert b"pha_a" not in message.body


async def test_a_path_with_a_nul_can_be_stored(gateway: FakeGateway) -> None:
    await gateway.http.delete("/v1/admin/provider-credentials/a%00b", headers=bearer())
    assert entries(gateway)[0].resource == "ab"


async def test_it_is_recorded_before_it_is_answered(gateway: FakeGateway) -> None:
    recorded_when_answered: list[int] = []
    inner = gateway.app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def seen(message: Any) -> None:
            if message["type"] == "http.response.start":
                recorded_when_answered.append(len(entries(gateway)))
            await send(message)

        await inner(scope, receive, seen)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as http:
        await http.delete(LETTER, headers=bearer())
    assert recorded_when_answered == [1]


async def test_a_request_is_answered_even_when_it_cannot_be_recorded(
    gateway: FakeGateway,
) -> None:
    gateway.bus.answer(CREDENTIALS_DELETE, Deleted())
    gateway.bus.published.fail = lambda _message: Unavailable("NATS is not connected")
    with capture_logs() as logs:
        answer = await gateway.http.delete(CREDENTIAL, headers=bearer())
    assert (answer.status_code, answer.json()) == (200, {"deleted": True})
    assert logs[-1]["event"] == "audit entry not kept"
    assert logs[-1]["action"] == "provider-credentials.delete"
