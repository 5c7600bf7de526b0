"""The audit trail: who changed what, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest

from hogsend.contract.errors import Unavailable
from hogsend.transport.connection import Connection
from tests.integration.gateway.test_credentials import PAYLOAD
from tests.integration.harness import READ_KEY, Gateway, admin, credentials_service, gateway
from tests.integration.ingest.driver import Driver
from tests.servers import Servers

URL = "/v1/admin/audit"
CREDENTIAL = "/v1/admin/provider-credentials/posthog"


@pytest.fixture
async def world(servers: Servers, database_url: str, fresh_bus: None) -> AsyncIterator[Driver]:
    world = Driver(servers, database_url)
    async with world.connected():
        yield world


@pytest.fixture
async def front(servers: Servers, world: Driver, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(servers, tmp_path, wait_for_secret=False) as running:
        yield running


async def entries(
    front: Gateway, world: Driver, query: str = ""
) -> list[tuple[str, str, str, int]]:
    await world.drained()
    page = (await front.http.get(f"{URL}{query}", headers=admin())).json()
    return [
        (one["actor"], one["action"], one["resource"], one["status"]) for one in page["entries"]
    ]


async def test_what_was_changed_is_noted_with_its_outcome_and_without_its_body(
    servers: Servers, database_url: str, front: Gateway, world: Driver
) -> None:
    reader = {"Authorization": f"Bearer {READ_KEY}"}
    async with world.replica(), credentials_service(servers, database_url):
        named = {**admin(), "X-Request-Id": "r-1"}
        await front.http.put(CREDENTIAL, json={"payload": PAYLOAD}, headers=named)
        await front.http.put(CREDENTIAL, json={"payload": {}}, headers=admin())
        await front.http.delete(CREDENTIAL, headers=reader)
        await front.http.delete(CREDENTIAL, headers=admin())
        # Neither looking nor failing to get in changes anything.
        await front.http.get(CREDENTIAL, headers=admin())
        await front.http.delete(CREDENTIAL, headers={"Authorization": "Bearer guess"})
        await front.http.delete(CREDENTIAL)
        found = await entries(front, world)
        assert found == [
            ("full-admin", "provider-credentials.delete", "posthog", 200),
            ("read", "provider-credentials.delete", "posthog", 403),
            ("full-admin", "provider-credentials.put", "posthog", 400),
            ("full-admin", "provider-credentials.put", "posthog", 200),
        ]
        assert len(await entries(front, world, "?actor=read")) == 1
        assert len(await entries(front, world, "?action=provider-credentials.put&limit=1")) == 1
        page = await front.http.get(URL, headers=admin())
        assert page.json()["total"] == 4
        assert page.json()["entries"][-1]["requestId"] == "r-1"
        assert page.json()["entries"][-1]["address"] == "127.0.0.1"
        assert "pha_a" not in page.text
        assert (await front.http.get(URL, headers=reader)).status_code == 403


async def test_a_request_is_answered_even_when_it_cannot_be_noted(
    front: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.object(Connection, "publish", side_effect=Unavailable("NATS is away")):
        answer = await front.http.delete(CREDENTIAL, headers=admin())
    assert answer.status_code == 503
    assert "audit entry not kept" in capsys.readouterr().out


async def test_the_same_entry_twice_is_kept_once_and_what_is_none_is_set_aside(
    world: Driver,
) -> None:
    entry = (
        b'{"id":"6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11","at":"2026-01-01T00:00:00Z","actor":"read",'
        b'"action":"a.put","resource":"x","status":200,"requestId":"r","address":"127.0.0.1"}'
    )
    async with world.replica():
        for body in (entry, entry, b"nonsense"):
            await world.gateway.publish("hogsend.audit", body, {})
        (letter,) = await world.dead_letters(1)
        assert (letter.stream, letter.reason) == ("AUDIT", "malformed")
    assert await world.count("audit") == 1
