"""The audit trail: who changed what, and with which status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from hogsend.contract.audit import AuditEntry
from hogsend.contract.credentials import CREDENTIALS_DELETE, ProviderRef
from hogsend.contract.dead_letters import INGEST_PURGE, PurgeDeadLetters
from hogsend.contract.errors import NotFound
from tests.integration.gateway.test_credentials import PAYLOAD
from tests.integration.harness import READ_KEY, Gateway, admin, credentials_service, gateway_service
from tests.integration.ingest.driver import Driver
from tests.servers import Servers

URL = "/v1/admin/audit"
CREDENTIAL = "/v1/admin/provider-credentials/posthog"


@pytest.fixture
async def driver(servers: Servers, database_url: str, fresh_bus: None) -> AsyncIterator[Driver]:
    driver = Driver(servers, database_url)
    async with driver.connected():
        yield driver


@pytest.fixture
async def gateway(servers: Servers, driver: Driver, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as running:
        yield running


async def entries(
    gateway: Gateway, driver: Driver, query: str = ""
) -> list[tuple[str, str, str, int]]:
    await driver.drained()
    page = (await gateway.http.get(f"{URL}{query}", headers=admin())).json()
    return [
        (entry["actor"], entry["action"], entry["resource"], entry["status"])
        for entry in page["entries"]
    ]


async def test_an_admin_change_is_recorded_with_its_status_and_without_its_body(
    servers: Servers, database_url: str, gateway: Gateway, driver: Driver
) -> None:
    reader = {"Authorization": f"Bearer {READ_KEY}"}
    async with driver.replica(), credentials_service(servers, database_url):
        with_id = {**admin(), "X-Request-Id": "r-1"}
        await gateway.http.put(CREDENTIAL, json={"payload": PAYLOAD}, headers=with_id)
        await gateway.http.put(CREDENTIAL, json={"payload": {}}, headers=admin())
        await gateway.http.delete(CREDENTIAL, headers=reader)
        await gateway.http.delete(CREDENTIAL, headers=admin())
        # Reads and requests without a valid key are not recorded.
        await gateway.http.get(CREDENTIAL, headers=admin())
        await gateway.http.delete(CREDENTIAL, headers={"Authorization": "Bearer wrong"})
        await gateway.http.delete(CREDENTIAL)
        assert await entries(gateway, driver) == [
            ("full-admin", "provider-credentials.delete", "posthog", 200),
            ("read", "provider-credentials.delete", "posthog", 403),
            ("full-admin", "provider-credentials.put", "posthog", 400),
            ("full-admin", "provider-credentials.put", "posthog", 200),
        ]
        assert len(await entries(gateway, driver, "?actor=read")) == 1
        assert len(await entries(gateway, driver, "?action=provider-credentials.put&limit=1")) == 1
        page = await gateway.http.get(URL, headers=admin())
        assert page.json()["total"] == 4
        assert page.json()["entries"][-1]["requestId"] == "r-1"
        assert page.json()["entries"][-1]["address"] == "127.0.0.1"
        assert "pha_a" not in page.text
        assert (await gateway.http.get(URL, headers=reader)).status_code == 403


async def test_a_change_over_the_bus_is_recorded_and_a_change_over_http_is_recorded_once(
    servers: Servers, database_url: str, gateway: Gateway, driver: Driver
) -> None:
    async with driver.replica(), credentials_service(servers, database_url):
        await driver.operator.request(INGEST_PURGE, PurgeDeadLetters(), deadline=10)
        with pytest.raises(NotFound):
            await driver.operator.request(
                CREDENTIALS_DELETE, ProviderRef(provider_id="posthog"), deadline=10
            )
        await gateway.http.delete(CREDENTIAL, headers=admin())
        assert await entries(gateway, driver) == [
            ("full-admin", "provider-credentials.delete", "posthog", 404),
            ("nats:operator", "credentials.delete", "posthog", 404),
            ("nats:operator", "ingest.purge", "", 200),
        ]


async def test_a_repeated_entry_is_stored_once_and_a_malformed_entry_is_a_dead_letter(
    driver: Driver,
) -> None:
    entry = (
        b'{"id":"6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11","at":"2026-01-01T00:00:00Z","actor":"read",'
        b'"action":"a.put","resource":"x","status":200,"requestId":"r","address":"127.0.0.1"}'
    )
    async with driver.replica():
        for body in (entry, entry, b"nonsense"):
            await driver.gateway.publish("hogsend.audit", body, {})
        (letter,) = await driver.dead_letters(1)
        assert (letter.stream, letter.reason) == ("AUDIT", "malformed")
    assert await driver.count("audit") == 1


async def test_a_long_resource_in_an_entry_of_an_earlier_version_is_truncated(
    gateway: Gateway, driver: Driver
) -> None:
    entry = AuditEntry(
        id=uuid4(),
        at=datetime(2026, 1, 1, tzinfo=UTC),
        actor="read",
        action="contacts.delete",
        resource="a" * 60_000,
        status=403,
        request_id="r",
        address="127.0.0.1",
    )
    async with driver.replica():
        await driver.gateway.publish("hogsend.audit", msgspec.json.encode(entry), {})
        assert await entries(gateway, driver) == [("read", "contacts.delete", "a" * 500, 403)]
