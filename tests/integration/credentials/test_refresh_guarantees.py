"""Guarantees of refreshing over replicas, crashes and the bus. Unit tests cover the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from hogsend.client.client import Client
from hogsend.contract.credentials import (
    CREDENTIALS_TOKEN,
    CredentialChanged,
    TokenRequest,
)
from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.contract.users import User
from services.credentials import refresh_lock
from tests.integration.credentials.conftest import Driver, request_token, stored
from tests.integration.harness import (
    SEALING_SECRET,
    Credentials,
    admin,
    connected,
    consumer_api,
    gateway_service,
)
from tests.running_stack import PYTHONPATH
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually


async def test_ten_replicas_refresh_once_and_back_off_together(driver: Driver) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(driver.replica()) for _ in range(10)]
        await replicas[0].credentials.put_oauth("posthog", driver.grant(expires_in=30))
        replies = await asyncio.gather(
            *(request_token(replica) for replica in replicas for _ in range(3))
        )
        assert {reply.token for reply in replies} == {"pha_1"}
        assert len(driver.endpoint.requests) == 1

        driver.clock.advance(3600)
        driver.endpoint.status = 503
        await asyncio.gather(*(request_token(replica) for replica in replicas))
        await asyncio.gather(*(replica.refresher.refresh_due() for replica in replicas))
        assert len(driver.endpoint.requests) == 2


async def test_every_refresh_publishes_a_credential_change(
    servers: Servers, driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(expires_in=59))
    async with consumer_api(servers), connected(servers, User.SUBSCRIBER) as bus:
        changes = Client(bus).credential_changes("posthog")
        stored_change = await asyncio.wait_for(anext(changes), PATIENCE_SECONDS)
        reply = await request_token(service)
        refreshed = await asyncio.wait_for(anext(changes), PATIENCE_SECONDS)
    assert stored_change.change == "stored"
    assert isinstance(refreshed, CredentialChanged)
    assert refreshed.change == "refreshed"
    assert refreshed.changed_kinds == ["oauth"]
    assert refreshed.version == reply.version > stored_change.version
    assert refreshed.expires_at == driver.clock.now + timedelta(hours=1)


async def test_a_refresh_that_a_kill_interrupted_is_repeated_at_once(
    servers: Servers, database_url: str, driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(expires_in=30))
    environment = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "NATS_URL": servers.nats_url(User.CREDENTIALS),
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SEALING_SECRET,
        "OUTBOUND_ALLOW": "127.0.0.1",
    }
    driver.endpoint.gate.clear()
    # The process requests a refresh, because the grant is due, and is killed before the response.
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli.main", "serve", "credentials"),
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: driver.endpoint.requests)
    finally:
        victim.kill()
        await victim.wait()
    driver.endpoint.gate.set()
    await service.refresher.repeat_interrupted()
    assert [request.form["refresh_token"] for request in driver.endpoint.requests] == [
        "phr_0",
        "phr_0",
    ]
    grant = await stored(service)
    assert grant is not None
    assert grant.refresh_token == "phr_2"


async def test_a_frozen_replica_loses_its_lock(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_lock, "LOCK_IDLE_SECONDS", 1)
    async with driver.replica() as frozen, driver.replica() as service:
        await service.credentials.put_oauth("posthog", driver.grant(expires_in=30))
        # PostgreSQL has closed the connection, which the frozen replica notices when it continues.
        with contextlib.suppress(Unavailable, asyncpg.InterfaceError):
            async with frozen.store.refresh_lock("posthog"):
                assert (await request_token(service)).token == "pha_1"
        assert len(driver.endpoint.requests) == 1


async def test_invalid_grant_is_reported_as_needs_reconnect_by_every_interface(
    servers: Servers, driver: Driver, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(expires_in=30))
    driver.endpoint.status, driver.endpoint.reply = 400, {"error": "invalid_grant"}
    await request_token(service)
    status = await service.credentials.status("posthog")
    assert status.needs_reconnect
    assert status.refresh_error == "invalid_grant"
    async with gateway_service(servers, tmp_path) as running:
        url = "/v1/admin/provider-credentials/posthog"
        assert (await running.http.get(url, headers=admin())).json()["needsReconnect"] is True
        health = (await running.http.get("/v1/health")).json()
        assert health["credentials"]["posthog"]["state"] == "needs_reconnect"
        await service.refresher.refresh_due()
        assert len(driver.endpoint.requests) == 1
        await service.credentials.put_oauth("posthog", driver.grant(expires_in=3600))
        assert "needsReconnect" not in (await running.http.get(url, headers=admin())).json()
        health = (await running.http.get("/v1/health")).json()
        assert health["credentials"]["posthog"]["state"] == "present"


async def test_a_token_is_returned_only_to_a_service_with_the_permission(
    servers: Servers, driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(expires_in=59))
    request = TokenRequest(provider_id="posthog")
    async with connected(servers, User.PROVISIONER) as provisioner:
        reply = await provisioner.request(CREDENTIALS_TOKEN, request)
    assert (reply.source, reply.token) == ("oauth", "pha_1")
    assert reply.expires_at == driver.clock.now + timedelta(hours=1)
    async with connected(servers, User.GATEWAY) as gateway_connection:
        with pytest.raises(Forbidden):
            await gateway_connection.request(CREDENTIALS_TOKEN, request)
