"""A starting replica serves no requests before it has tried to connect to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import pytest

from hogsend.contract.base import Empty
from hogsend.contract.errors import Unavailable
from hogsend.contract.health import (
    ANALYTICS_HEALTH,
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
)
from hogsend.contract.users import User
from hogsend.service.database import Database
from tests.integration.harness import (
    analytics_service,
    connected,
    credentials_service,
    provisioner_service,
)
from tests.integration.ingest.driver import ingest_service
from tests.servers import Servers

pytestmark = pytest.mark.usefixtures("fresh_bus")

Service: TypeAlias = Callable[[Servers, str], AbstractAsyncContextManager[Any]]


@pytest.mark.parametrize(
    ("service", "health"),
    [
        (ingest_service, INGEST_HEALTH),
        (credentials_service, CREDENTIALS_HEALTH),
        (partial(provisioner_service, posthog={}), PROVISIONER_HEALTH),
        (partial(analytics_service, posthog={}), ANALYTICS_HEALTH),
    ],
)
async def test_a_service_serves_requests_after_its_first_attempt_to_reach_postgresql(
    servers: Servers,
    database_url: str,
    service: Service,
    health: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits, has_tried = asyncio.Event(), asyncio.Event()

    async def wait_for_first_attempt(_: Database) -> None:
        waits.set()
        await has_tried.wait()

    monkeypatch.setattr(Database, "wait_for_first_attempt", wait_for_first_attempt)
    stop = asyncio.Event()
    is_up = asyncio.Event()

    async def run() -> None:
        async with service(servers, database_url):
            is_up.set()
            await stop.wait()

    async with connected(servers, User.GATEWAY) as gateway, asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        await waits.wait()
        with pytest.raises(Unavailable):
            await gateway.request(health, Empty())
        has_tried.set()
        await is_up.wait()
        assert (await gateway.request(health, Empty())).database.status == "up"
        stop.set()
