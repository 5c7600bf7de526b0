"""`/v1/admin/deadletters`: nothing is replayed or purged unless the request selects it."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.dead_letters import (
    INGEST_PURGE,
    INGEST_REPLAY,
    DeadLettersDone,
    PurgeDeadLetters,
    ReplayDeadLetters,
)
from tests.unit.gateway.fakes import FakeGateway, bearer

URL = "/v1/admin/deadletters"
DONE = DeadLettersDone(count=1, kept=[])


@pytest.mark.parametrize("action", ["replay", "purge"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"all":false}',
        b'{"all":true,"stream":"WEBHOOKS"}',
        b'{"stream":"WEBHOOKS","raeson":"malformed"}',
        b'{"stream":""}',
        b'{"sequence":0}',
        b'{"sequence":"one"}',
        b'{"sequence":18446744073709551616}',
        b'{"reason":7}',
    ],
)
async def test_a_request_without_a_valid_selection_is_400_and_changes_nothing(
    gateway: FakeGateway, action: str, body: bytes
) -> None:
    headers = {**bearer(), "Content-Type": "application/json"}
    response = await gateway.http.post(f"{URL}/{action}", content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert "error" in response.json()
    assert gateway.bus.sent == []


@pytest.mark.parametrize(
    ("body", "filters"),
    [
        ({"all": True}, {}),
        ({"stream": "WEBHOOKS"}, {"stream": "WEBHOOKS"}),
        ({"sequence": 7, "reason": "malformed"}, {"sequence": 7, "reason": "malformed"}),
    ],
)
async def test_dead_letters_are_selected_by_filters_or_all_at_once(
    gateway: FakeGateway, body: dict[str, Any], filters: dict[str, Any]
) -> None:
    gateway.bus.reply_with(INGEST_REPLAY, DONE)
    gateway.bus.reply_with(INGEST_PURGE, DONE)
    for action in ("replay", "purge"):
        response = await gateway.http.post(f"{URL}/{action}", json=body, headers=bearer())
        assert (response.status_code, response.json()["count"]) == (200, 1)
    requests = [request.message for request in gateway.bus.sent]
    assert requests == [ReplayDeadLetters(**filters), PurgeDeadLetters(**filters)]


async def test_one_dead_letter_is_replayed_or_purged_by_its_sequence(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_REPLAY, DONE)
    gateway.bus.reply_with(INGEST_PURGE, DONE)
    replayed = await gateway.http.post(f"{URL}/7/replay", headers=bearer())
    purged = await gateway.http.delete(f"{URL}/8", headers=bearer())
    assert (replayed.status_code, purged.status_code) == (200, 200)
    requests = [request.message for request in gateway.bus.sent]
    assert requests == [ReplayDeadLetters(sequence=7), PurgeDeadLetters(sequence=8)]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "before=0", "before=x", "stream=", "reason="]
)
async def test_invalid_filters_are_400(gateway: FakeGateway, query: str) -> None:
    response = await gateway.http.get(f"{URL}?{query}", headers=bearer())
    assert response.status_code == 400
    assert response.json()["error"]["name"] == "ZodError"
    assert gateway.bus.sent == []


@pytest.mark.parametrize("sequence", ["0", "-1", "9" * 30])
async def test_an_invalid_sequence_is_400(gateway: FakeGateway, sequence: str) -> None:
    response = await gateway.http.get(f"{URL}/{sequence}", headers=bearer())
    assert response.status_code == 400
    assert gateway.bus.sent == []
