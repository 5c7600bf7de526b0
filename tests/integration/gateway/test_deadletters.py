"""`/v1/admin/deadletters`, with the ingest service behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import READ_KEY, Gateway, admin, gateway
from tests.integration.ingest.driver import Driver
from tests.servers import Servers
from tests.waiting import eventually

URL = "/v1/admin/deadletters"


@pytest.fixture
async def front(servers: Servers, fresh_bus: None, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(servers, tmp_path, posthog={"posthog_webhook_secret": "s"}) as running:
        yield running


@pytest.fixture
async def behind(servers: Servers, front: Gateway, database_url: str) -> AsyncIterator[None]:
    """An ingest service that made two dead letters."""
    world = Driver(servers, database_url)
    async with world.replica():
        await front.bus.publish("hogsend.webhooks.posthog", b"nonsense", {})
        await front.bus.publish("hogsend.webhooks.elsewhere", b"{}", {})
        await eventually(lambda: _holds(front, 2))
        yield


async def _holds(front: Gateway, count: int) -> bool:
    return bool((await get(front, ""))["total"] == count)


async def get(front: Gateway, path: str) -> Any:
    answer = await front.http.get(f"{URL}{path}", headers=admin(READ_KEY))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(front: Gateway, path: str, body: Any) -> Any:
    answer = await front.http.post(f"{URL}{path}", json=body, headers=admin())
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_letters_are_listed_paged_and_shown(front: Gateway, behind: None) -> None:
    first = await get(front, "?limit=1")
    second = await get(front, f"?limit=1&before={first['nextBefore']}")
    assert (first["total"], second["total"], second["nextBefore"]) == (2, 2, None)
    letters = first["deadLetters"] + second["deadLetters"]
    assert {letter["reason"] for letter in letters} == {"malformed", "unknown_source"}
    assert letters[0]["sequence"] > letters[1]["sequence"]
    (malformed,) = (await get(front, "?reason=malformed&stream=WEBHOOKS"))["deadLetters"]
    assert malformed["body"] is None
    shown = await get(front, f"/{malformed['sequence']}")
    assert shown == {**malformed, "body": "nonsense"}
    assert shown["failedAt"].endswith("Z")


async def test_a_letter_that_is_gone_is_404(front: Gateway, behind: None) -> None:
    deleted = await front.http.delete(f"{URL}/1", headers=admin())
    assert (deleted.status_code, deleted.json()["count"]) == (200, 1)
    for method, path in (("GET", "/1"), ("DELETE", "/1"), ("POST", "/1/replay"), ("GET", "/99")):
        answer = await front.http.request(method, f"{URL}{path}", headers=admin())
        assert answer.status_code == 404
        assert "no dead letter" in answer.json()["error"]
    assert (await get(front, ""))["total"] == 1


async def test_one_letter_is_replayed(front: Gateway, behind: None) -> None:
    answer = await front.http.post(f"{URL}/1/replay", headers=admin())
    assert answer.json() == {"count": 1, "kept": [], "more": False}
    await eventually(lambda: _holds(front, 2))
    assert (await get(front, ""))["deadLetters"][0]["sequence"] == 3


async def test_letters_are_replayed_and_purged_by_filter(front: Gateway, behind: None) -> None:
    assert (await post(front, "/replay", {"reason": "no such reason"}))["count"] == 0
    assert (await post(front, "/replay", {"reason": "malformed"}))["count"] == 1
    await eventually(lambda: _holds(front, 2))
    assert (await post(front, "/purge", {"reason": "malformed"}))["count"] == 1
    (left,) = (await get(front, ""))["deadLetters"]
    assert left["reason"] == "unknown_source"
    assert (await post(front, "/purge", {"all": True}))["count"] == 1
    assert (await get(front, "")) == {"deadLetters": [], "total": 0, "nextBefore": None}


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
        b'{"stream":"*"}',
        b'{"stream":"WEBHOOKS.>"}',
        b'{"sequence":0}',
        b'{"sequence":"one"}',
        b'{"sequence":18446744073709551616}',
        b'{"reason":7}',
    ],
)
async def test_nothing_happens_unless_it_is_said_which(
    front: Gateway, behind: None, action: str, body: bytes
) -> None:
    headers = {**admin(), "Content-Type": "application/json"}
    answer = await front.http.post(f"{URL}/{action}", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert "error" in answer.json()
    assert (await get(front, ""))["total"] == 2


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "before=0", "before=x", "stream=", "stream=*", "reason="]
)
async def test_odd_filters_are_400(front: Gateway, behind: None, query: str) -> None:
    answer = await front.http.get(f"{URL}?{query}", headers=admin())
    assert answer.status_code == 400
    assert answer.json()["error"]["name"] == "ZodError"


@pytest.mark.parametrize("sequence", ["0", "-1", "9" * 30])
async def test_what_is_no_sequence_is_400(front: Gateway, behind: None, sequence: str) -> None:
    answer = await front.http.get(f"{URL}/{sequence}", headers=admin())
    assert answer.status_code == 400


async def test_a_read_key_may_only_look(front: Gateway, behind: None) -> None:
    for method, path in (
        ("POST", "/replay"),
        ("POST", "/purge"),
        ("POST", "/1/replay"),
        ("DELETE", "/1"),
    ):
        answer = await front.http.request(
            method, f"{URL}{path}", json={"all": True}, headers=admin(READ_KEY)
        )
        assert answer.status_code == 403
    assert (await get(front, ""))["total"] == 2


async def test_without_ingest_it_is_a_typed_503(front: Gateway) -> None:
    answer = await front.http.post(f"{URL}/replay", json={"all": True}, headers=admin())
    assert answer.status_code == 503
    assert answer.json() == {"error": "the ingest service is not running", "code": "unavailable"}
