"""Refreshing at an independent OAuth server, with rotation and reuse protection."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from hogsend.contract.credentials import OAuthPayload
from hogsend.contract.credentials import token_digest as digest
from hogsend.posthog.client_document import CLIENT_ID
from services.credentials import refresh_schedule
from tests.integration.credentials.conftest import request_token, stored
from tests.integration.harness import Credentials, credentials_service
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def oauth_server(tmp_path: Path) -> Callable[[int], AbstractAsyncContextManager[str]]:
    """Return a function that runs django-oauth-toolkit with a grace period, in seconds.

    The context manager that it returns yields the URL of the token endpoint.
    """

    @asynccontextmanager
    async def running(grace_seconds: int) -> AsyncIterator[str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.oauth_toolkit", str(tmp_path), str(grace_seconds)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            yield json.loads(line)["url"]
        finally:
            process.kill()
            await process.wait()

    return running


def first_grant(url: str) -> OAuthPayload:
    return OAuthPayload(
        access_token="pha_first",
        refresh_token="phr_first",
        expires_at=datetime.now(UTC) + timedelta(seconds=30),
        token_endpoint=url,
        client_id=CLIENT_ID,
        scopes=["person:read", "project:read"],
    )


async def refresh_by_hand(url: str, refresh_token: str) -> httpx.Response:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": CLIENT_ID,
    }
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        return await http.post(url, data=form)


async def test_all_replicas_use_each_rotated_token(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
    oauth_server: Callable[[int], AbstractAsyncContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Three rotations in a row, which would take three minutes otherwise.
    monkeypatch.setattr(refresh_schedule, "INTERVAL", timedelta(0))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(oauth_server(120))
        replicas: list[Credentials] = [
            await stack.enter_async_context(credentials_service(servers, database_url))
            for _ in range(4)
        ]
        await replicas[0].credentials.put_oauth("posthog", first_grant(url))
        token = "pha_first"
        for _ in range(3):
            # PostHog rejected the token, and every replica reports it at the same time.
            replies = await asyncio.gather(
                *(request_token(replica, digest(token)) for replica in replicas)
            )
            (fresh,) = {reply.token for reply in replies}
            assert fresh not in {None, token}
            grant = await stored(replicas[0])
            assert grant is not None
            assert grant.access_token == fresh
            token = grant.access_token
        assert not (await replicas[0].credentials.status("posthog")).needs_reconnect


async def test_a_response_lost_in_a_crash_is_requested_again_within_the_grace_period(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
    oauth_server: Callable[[int], AbstractAsyncContextManager[str]],
) -> None:
    async with (
        oauth_server(120) as url,
        credentials_service(servers, database_url) as service,
    ):
        await service.credentials.put_oauth("posthog", first_grant(url))
        # The server has rotated the token, and its response is lost.
        lost = (await refresh_by_hand(url, "phr_first")).json()
        assert (await request_token(service)).token == lost["access_token"]
        grant = await stored(service)
        assert grant is not None
        assert grant.refresh_token == lost["refresh_token"]
        assert (await refresh_by_hand(url, grant.refresh_token)).status_code == 200


async def test_a_revoked_token_family_needs_a_reconnect(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
    oauth_server: Callable[[int], AbstractAsyncContextManager[str]],
) -> None:
    async with (
        oauth_server(0) as url,
        credentials_service(servers, database_url) as service,
    ):
        await service.credentials.put_oauth("posthog", first_grant(url))
        rotated = (await refresh_by_hand(url, "phr_first")).json()
        # After the grace period, a use of the old refresh token revokes the whole family.
        assert (await request_token(service)).token == "pha_first"
        status = await service.credentials.status("posthog")
        assert status.needs_reconnect
        assert status.refresh_error == "invalid_grant"
        assert (await refresh_by_hand(url, rotated["refresh_token"])).status_code == 400
