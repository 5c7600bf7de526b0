"""What refreshing promises beyond the cases: one at a time, nothing lost, and visible trouble."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from hogsend.client.client import Client
from hogsend.contract.credentials import (
    CREDENTIALS_TOKEN,
    CredentialChanged,
    DerivedPayload,
    TokenRequest,
)
from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.contract.users import User
from hogsend.service.token_cache import token_digest as digest
from services.credentials import store as store_module
from services.credentials.refresh import IDLE
from tests.integration.credentials.conftest import Driver, ask, stored
from tests.integration.harness import SEALING_SECRET, Credentials, admin, connected, gateway
from tests.running_stack import PYTHONPATH
from tests.servers import Servers
from tests.waiting import eventually


async def test_ten_replicas_refresh_once(driver: Driver) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(driver.replica()) for _ in range(10)]
        await replicas[0].credentials.put_oauth("posthog", driver.grant(left=30))
        replies = await asyncio.gather(*(ask(replica) for replica in replicas for _ in range(3)))
        assert {reply.token for reply in replies} == {"pha_1"}
        assert len(driver.endpoint.asked) == 1


async def test_ten_replicas_back_off_together(driver: Driver) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(driver.replica()) for _ in range(10)]
        await replicas[0].credentials.put_oauth("posthog", driver.grant(left=30))
        driver.endpoint.status = 503
        await asyncio.gather(*(ask(replica) for replica in replicas))
        await asyncio.gather(*(replica.refresher.refresh_due() for replica in replicas))
        assert len(driver.endpoint.asked) == 1


async def test_every_refresh_is_a_credential_event(
    servers: Servers, driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=59))
    await service.relay.relay("posthog")
    async with connected(servers, User.SUBSCRIBER) as bus:
        changes = Client(bus).credential_changes("posthog")
        stored_one = await asyncio.wait_for(anext(changes), 10)
        reply = await ask(service)
        refreshed = await asyncio.wait_for(anext(changes), 10)
    assert stored_one.change == "stored"
    assert isinstance(refreshed, CredentialChanged)
    assert refreshed.change == "refreshed"
    assert refreshed.changed_kinds == ["oauth"]
    assert refreshed.version == reply.version > stored_one.version
    assert refreshed.expires_at == driver.clock.now + timedelta(hours=1)


async def test_connecting_again_wins_over_a_refresh_under_way(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.go_on.clear()
    asking = asyncio.create_task(ask(service))
    await eventually(lambda: driver.endpoint.asked)
    again = driver.grant(left=3600, access_token="pha_again", refresh_token="phr_again")
    await service.credentials.put_oauth("posthog", again)
    driver.endpoint.go_on.set()
    assert (await asking).token == "pha_again"
    assert await stored(service) == again


async def test_a_deleted_credential_does_not_come_back(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.go_on.clear()
    asking = asyncio.create_task(ask(service))
    await eventually(lambda: driver.endpoint.asked)
    await service.credentials.delete("posthog")
    driver.endpoint.go_on.set()
    assert (await asking).source == "none"
    assert await stored(service) is None


async def test_storing_something_derived_does_not_cost_the_refreshed_token(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.go_on.clear()
    asking = asyncio.create_task(ask(service))
    await eventually(lambda: driver.endpoint.asked)
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="s"))
    driver.endpoint.go_on.set()
    assert (await asking).token == "pha_1"


async def test_a_refused_token_is_refreshed_however_fresh_it_looks(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=3600))
    assert (await ask(service, digest("pha_0"))).token == "pha_1"
    # Somebody who was late with the same complaint gets the new one.
    assert (await ask(service, digest("pha_0"))).token == "pha_1"
    assert len(driver.endpoint.asked) == 1


async def test_a_refused_token_is_not_given_again_when_refreshing_fails(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=3600))
    driver.endpoint.status = 500
    assert (await ask(service, digest("pha_0"))).source == "none"
    assert (await ask(service)).token == "pha_0"


async def test_an_idle_grant_is_refreshed_before_its_refresh_token_ends(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=40 * 24 * 3600))
    await service.refresher.refresh_due()
    assert driver.endpoint.asked == []
    driver.clock.advance(IDLE.total_seconds() + 60)
    await service.refresher.refresh_due()
    assert len(driver.endpoint.asked) == 1


async def test_a_due_grant_is_refreshed_without_anybody_asking(
    driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=61))
    await service.refresher.refresh_due()
    assert driver.endpoint.asked == []
    driver.clock.advance(1)
    await service.refresher.refresh_due()
    grant = await stored(service)
    assert grant is not None
    assert grant.access_token == "pha_1"


async def test_stopping_waits_for_the_answer_and_stores_it(driver: Driver) -> None:
    async with driver.replica() as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=30))
        driver.endpoint.go_on.clear()
        asking = asyncio.create_task(ask(service))
        await eventually(lambda: driver.endpoint.asked)
        asking.cancel()
        asyncio.get_running_loop().call_later(0.05, driver.endpoint.go_on.set)
        await service.refresher.finish()
        grant = await stored(service)
    assert grant is not None
    assert grant.refresh_token == "phr_1"


async def test_a_refresh_that_sigkill_cut_off_is_repeated_at_once(
    servers: Servers, database_url: str, driver: Driver, service: Credentials
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    environment = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "NATS_URL": servers.nats_url(User.CREDENTIALS),
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SEALING_SECRET,
        "OUTBOUND_ALLOW": "127.0.0.1",
    }
    driver.endpoint.go_on.clear()
    # It finds the grant due and asks; nobody answers, and then it is gone.
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli.main", "serve", "credentials"),
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: driver.endpoint.asked, 30)
    finally:
        victim.kill()
        await victim.wait()
    driver.endpoint.go_on.set()
    await service.refresher.repeat_interrupted()
    assert [asked.form["refresh_token"] for asked in driver.endpoint.asked] == ["phr_0", "phr_0"]
    grant = await stored(service)
    assert grant is not None
    assert grant.refresh_token == "phr_2"


async def test_a_frozen_replica_loses_its_turn(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_IDLE_SECONDS", 1)
    async with driver.replica() as frozen, driver.replica() as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=30))
        # Its connection is gone, which it learns when it wakes up.
        with contextlib.suppress(Unavailable, asyncpg.InterfaceError):
            async with frozen.store.refresh_lock("posthog"):
                assert (await ask(service)).token == "pha_1"
        assert len(driver.endpoint.asked) == 1


async def test_the_old_token_is_given_while_another_replica_does_not_end(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_SECONDS", 0.2)
    async with driver.replica() as slow, driver.replica() as service:
        await service.credentials.put_oauth("posthog", driver.grant(left=30))
        async with slow.store.refresh_lock("posthog"):
            assert (await ask(service)).token == "pha_0"
            driver.clock.advance(31)
            assert (await ask(service)).source == "none"


async def test_invalid_grant_asks_to_connect_again_wherever_one_looks(
    servers: Servers, driver: Driver, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.status, driver.endpoint.answer = 400, {"error": "invalid_grant"}
    await ask(service)
    status = await service.credentials.status("posthog")
    assert status.needs_reconnect
    assert status.refresh_error == "invalid_grant"
    async with gateway(servers, tmp_path) as running:
        url = "/v1/admin/provider-credentials/posthog"
        assert (await running.http.get(url, headers=admin())).json()["needsReconnect"] is True
        health = (await running.http.get("/v1/health")).json()
        assert health["credentials"]["posthog"]["state"] == "needs_reconnect"
        await service.refresher.refresh_due()
        assert len(driver.endpoint.asked) == 1
        await service.credentials.put_oauth("posthog", driver.grant(left=3600))
        assert "needsReconnect" not in (await running.http.get(url, headers=admin())).json()
        health = (await running.http.get("/v1/health")).json()
        assert health["credentials"]["posthog"]["state"] == "present"


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (302, b"", "HTTP 302"),
        (500, b"<html>", "HTTP 500"),
        (400, {"error": "phr_0"}, "HTTP 400"),
        (400, {"error": "invalid_client"}, "invalid_client"),
        (200, b"nonsense", "an answer without"),
        (200, {"access_token": "pha_x"}, "an answer without"),
        (200, {"access_token": "", "expires_in": 5}, "an answer without"),
        (200, {"access_token": "pha_x", "expires_in": "3600"}, "an answer without"),
        (200, {"access_token": "pha_x", "expires_in": 1e300}, "an answer without"),
        (200, b"x" * 1_000_000, "an answer without"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_failure(
    driver: Driver, service: Credentials, status: int, answer: Any, reason: str
) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.status, driver.endpoint.answer = status, answer
    with capture_logs() as logs:
        assert (await ask(service)).token == "pha_0"
    assert reason in ((await service.credentials.status("posthog")).refresh_error or "")
    assert len(driver.endpoint.asked) == 1
    for token in ("pha_0", "phr_0", "pha_x"):
        assert token not in str(logs)


async def test_an_unreachable_token_endpoint_is_a_failure(
    driver: Driver, service: Credentials
) -> None:
    unreachable = driver.grant(left=30, token_endpoint="http://127.0.0.1:9/oauth/token/")
    await service.credentials.put_oauth("posthog", unreachable)
    assert (await ask(service)).token == "pha_0"
    assert (await service.credentials.status("posthog")).refresh_error == "no answer (ConnectError)"


async def test_the_operator_cannot_ask_for_tokens_by_accident(
    servers: Servers, driver: Driver, service: Credentials
) -> None:
    async with connected(servers, User.GATEWAY) as bus:
        with pytest.raises(Forbidden):
            await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))


async def test_a_moment_is_stored_as_it_was(driver: Driver, service: Credentials) -> None:
    await service.credentials.put_oauth("posthog", driver.grant(left=30))
    driver.endpoint.answer = {"access_token": "a", "expires_in": 3600}
    await ask(service)
    grant = await stored(service)
    assert grant is not None
    assert isinstance(grant.expires_at, datetime)
    assert grant.expires_at == driver.clock.now + timedelta(hours=1)
