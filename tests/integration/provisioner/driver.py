"""Credentials, provisioner and gateway on real servers, against a recording PostHog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hogsend.contract.credentials import DerivedPayload
from tests.destinations import PUBLIC_URL, SECRET
from tests.integration.gateway.test_credentials import PAYLOAD
from tests.integration.gateway.test_credentials import URL as CREDENTIAL
from tests.integration.harness import (
    Credentials,
    Gateway,
    Provisioner,
    admin,
    credentials_service,
    gateway_service,
    provisioner_service,
)
from tests.posthog_recorder import Recorder
from tests.servers import Servers

URL = "/v1/admin/analytics/provision-loop"
DIAGNOSIS = "/v1/admin/analytics/diagnosis"
WITH_SECRET = {"posthog_webhook_secret": SECRET}
NOWHERE = {"posthog_api_key": None, "posthog_host": None, "posthog_private_host": None}


@dataclass
class Driver:
    """The running services, and the PostHog that records their requests."""

    posthog: Recorder
    credentials: Credentials
    provisioner: Provisioner
    gateway: Gateway

    async def connect(self, **changes: Any) -> None:
        """Store the acceptance cases' payload P."""
        body = {"payload": {**PAYLOAD, **changes}}
        assert (await self.gateway.http.put(CREDENTIAL, json=body, headers=admin())).is_success

    async def provision(self, query: str = "") -> httpx.Response:
        """POST provision-loop as the CLI does."""
        return await self.gateway.http.post(f"{URL}{query}", json={}, headers=admin())

    async def diagnose(self) -> Any:
        """GET the diagnosis."""
        response = await self.gateway.http.get(DIAGNOSIS, headers=admin())
        assert response.status_code == 200, response.text
        return response.json()

    async def derived(self) -> DerivedPayload | None:
        """Return the stored derived payload."""
        return (await self.credentials.credentials.derived("posthog")).payload

    async def make_unreadable(self, kind: str) -> None:
        """Store a row that no sealing secret can decrypt."""
        async with self.credentials.database.acquire() as connection:
            await connection.execute(
                "INSERT INTO provider_credentials (provider_id, kind, payload) "
                "VALUES ('posthog', $1, 'bm90LXJlYWwtY2lwaGVydGV4dA') "
                "ON CONFLICT (provider_id, kind) DO UPDATE SET payload = excluded.payload",
                kind,
            )


@asynccontextmanager
async def start_driver(
    servers: Servers,
    database_url: str,
    posthog: Recorder,
    directory: Path,
    *,
    environment: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    public_url: str = PUBLIC_URL,
    personal_key: str | None = None,
    connected: bool = True,
    instances: dict[str, Any] | None = None,
    gateway_settings: dict[str, Any] | None = None,
) -> AsyncIterator[Driver]:
    """Run the contract's fixture environment, with a stored grant unless `connected` is false."""
    configured = {
        "posthog_api_key": "phc_test",
        "posthog_host": "https://eu.i.posthog.com",
        "posthog_private_host": posthog.url,
        **(environment or {}),
    }
    async with AsyncExitStack() as stack:
        credentials = await stack.enter_async_context(
            credentials_service(servers, database_url, personal_key=personal_key)
        )
        provisioner = await stack.enter_async_context(
            provisioner_service(
                servers,
                database_url,
                posthog=configured,
                settings=settings,
                public_url=public_url,
                instances=instances,
            )
        )
        running_gateway = await stack.enter_async_context(
            gateway_service(
                servers,
                directory,
                posthog=configured,
                public_url=public_url,
                settings=gateway_settings,
            )
        )
        driver = Driver(posthog, credentials, provisioner, running_gateway)
        if connected:
            await driver.connect()
        yield driver
