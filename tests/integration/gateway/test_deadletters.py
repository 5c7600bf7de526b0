"""`/v1/admin/deadletters`, with the ingest service running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import READ_KEY, Gateway, admin, gateway_service
from tests.integration.ingest.driver import Driver
from tests.servers import Servers
from tests.waiting import eventually

URL = "/v1/admin/deadletters"


@pytest.fixture
async def gateway(servers: Servers, fresh_bus: None, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_service(
        servers, tmp_path, posthog={"posthog_webhook_secret": "s"}
    ) as running:
        yield running


@pytest.fixture
async def dead_letters(
    servers: Servers, gateway: Gateway, database_url: str
) -> AsyncIterator[None]:
    """Run an ingest service with two dead letters."""
    driver = Driver(servers, database_url)
    async with driver.replica():
        await gateway.bus.publish("hogsend.webhooks.posthog", b"nonsense", {})
        await gateway.bus.publish("hogsend.webhooks.unknown", b"{}", {})
        await eventually(lambda: _has_total(gateway, 2))
        yield


async def _has_total(gateway: Gateway, count: int) -> bool:
    return bool((await get(gateway, ""))["total"] == count)


async def get(gateway: Gateway, path: str) -> Any:
    response = await gateway.http.get(f"{URL}{path}", headers=admin(READ_KEY))
    assert response.status_code == 200, response.text
    return response.json()


async def post(gateway: Gateway, path: str, body: Any) -> Any:
    response = await gateway.http.post(f"{URL}{path}", json=body, headers=admin())
    assert response.status_code == 200, response.text
    return response.json()


async def test_dead_letters_are_listed_in_pages_and_read_by_sequence(
    gateway: Gateway, dead_letters: None
) -> None:
    first = await get(gateway, "?limit=1")
    second = await get(gateway, f"?limit=1&before={first['nextBefore']}")
    assert (first["total"], second["total"], second["nextBefore"]) == (2, 2, None)
    letters = first["deadLetters"] + second["deadLetters"]
    assert {letter["reason"] for letter in letters} == {"malformed", "unknown_source"}
    assert letters[0]["sequence"] > letters[1]["sequence"]
    (malformed,) = (await get(gateway, "?reason=malformed&stream=WEBHOOKS"))["deadLetters"]
    assert malformed["body"] is None
    shown = await get(gateway, f"/{malformed['sequence']}")
    assert shown == {**malformed, "body": "nonsense"}
    assert shown["failedAt"].endswith("Z")


async def test_a_deleted_dead_letter_returns_404(gateway: Gateway, dead_letters: None) -> None:
    deleted = await gateway.http.delete(f"{URL}/1", headers=admin())
    assert (deleted.status_code, deleted.json()["count"]) == (200, 1)
    for method, path in (("GET", "/1"), ("DELETE", "/1"), ("POST", "/1/replay"), ("GET", "/99")):
        response = await gateway.http.request(method, f"{URL}{path}", headers=admin())
        assert response.status_code == 404
        assert "no dead letter" in response.json()["error"]
    assert (await get(gateway, ""))["total"] == 1


async def test_a_dead_letter_is_replayed_by_its_sequence(
    gateway: Gateway, dead_letters: None
) -> None:
    response = await gateway.http.post(f"{URL}/1/replay", headers=admin())
    assert response.json() == {"count": 1, "kept": [], "more": False}
    await eventually(lambda: _has_total(gateway, 2))
    assert (await get(gateway, ""))["deadLetters"][0]["sequence"] == 3


async def test_dead_letters_are_replayed_and_purged_by_filter(
    gateway: Gateway, dead_letters: None
) -> None:
    assert (await post(gateway, "/replay", {"reason": "no such reason"}))["count"] == 0
    assert (await post(gateway, "/replay", {"reason": "malformed"}))["count"] == 1
    await eventually(lambda: _has_total(gateway, 2))
    assert (await post(gateway, "/purge", {"reason": "malformed"}))["count"] == 1
    (remaining,) = (await get(gateway, ""))["deadLetters"]
    assert remaining["reason"] == "unknown_source"
    assert (await post(gateway, "/purge", {"all": True}))["count"] == 1
    assert (await get(gateway, "")) == {"deadLetters": [], "total": 0, "nextBefore": None}


@pytest.mark.parametrize("stream", ["*", "WEBHOOKS.>"])
async def test_a_filter_with_a_wildcard_is_refused(
    gateway: Gateway, dead_letters: None, stream: str
) -> None:
    for action in ("replay", "purge"):
        response = await gateway.http.post(
            f"{URL}/{action}", json={"stream": stream}, headers=admin()
        )
        assert response.status_code == 400, response.text
    listed = await gateway.http.get(URL, params={"stream": stream}, headers=admin())
    assert listed.status_code == 400
    assert listed.json()["error"]["name"] == "ZodError"
    assert (await get(gateway, ""))["total"] == 2
