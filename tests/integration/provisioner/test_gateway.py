"""The gateway while the provisioner is frozen, slow or newer than the other services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from hogsend.contract.base import Empty
from hogsend.contract.discovery import PingedReplica, PingQuery, ping_subject
from hogsend.contract.health import (
    PROVISIONER_HEALTH,
    DependencyHealth,
    SchemaHealth,
    ServiceHealth,
)
from hogsend.contract.provisioning import (
    PROVISIONER_PROVISION,
    Provisioned,
    ProvisionLoop,
    ProvisionReply,
)
from hogsend.contract.users import User
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from services.gateway.routes import provisioning
from tests.integration.harness import (
    admin,
    connected,
    credentials_service,
    gateway_service,
    received_pings,
    serving,
)
from tests.integration.provisioner.driver import URL, WITH_SECRET
from tests.servers import Servers
from tests.waiting import eventually

DELIVERY = {"event": {"event": "signed_up", "distinct_id": "u", "uuid": "1"}, "person": {}}


HEALTHY = ServiceHealth(
    service="provisioner",
    uptime=1.0,
    database=DependencyHealth(status="up"),
    schema=SchemaHealth(applied=None, required=None, pending=[]),
)


class FakeProvisioner:
    """A provisioner that a test freezes and releases."""

    def __init__(self) -> None:
        self.not_frozen = asyncio.Event()
        self.not_frozen.set()
        self.requested, self.may_finish = asyncio.Event(), asyncio.Event()
        self.may_finish.set()


router = ServiceRouter()


@router.endpoint(PROVISIONER_HEALTH)
async def health(_request: Empty, fake: Injected[FakeProvisioner]) -> ServiceHealth:
    await fake.not_frozen.wait()
    return HEALTHY


@router.endpoint(PROVISIONER_PROVISION)
async def provision(_request: ProvisionLoop, fake: Injected[FakeProvisioner]) -> ProvisionReply:
    fake.requested.set()
    await fake.may_finish.wait()
    return ProvisionReply(
        provisioned=Provisioned(
            action="created",
            hog_function_id="fn",
            webhook_url="https://t.example.com/v1/webhooks/posthog",
            dashboard_url="https://ph.example/",
            enabled=True,
        )
    )


@asynccontextmanager
async def fake_provisioner(servers: Servers) -> AsyncIterator[FakeProvisioner]:
    fake = FakeProvisioner()
    async with serving(servers, User.PROVISIONER, router, fake):
        yield fake
        fake.not_frozen.set()


async def test_a_request_to_a_frozen_provisioner_is_503(
    servers: Servers, fresh_bus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "PROBE_SECONDS", 0.2)
    async with (
        fake_provisioner(servers) as fake,
        gateway_service(servers, tmp_path, posthog=WITH_SECRET) as running,
    ):
        fake.not_frozen.clear()
        frozen = await running.http.post(URL, headers=admin())
        fake.not_frozen.set()
        thawed = await running.http.post(URL, headers=admin())
    assert (frozen.status_code, frozen.json()["code"]) == (503, "unavailable")
    assert thawed.status_code == 200


async def test_a_request_is_503_when_the_provisioner_dies_during_a_run(
    servers: Servers,
    fresh_bus: None,
    tmp_path: Path,
    frequent_pings: None,
) -> None:
    requested = asyncio.Event()

    async def reply_to_health(message: Msg) -> None:
        await message.respond(msgspec.json.encode(HEALTHY))

    async def reply_to_ping(message: Msg) -> None:
        query = msgspec.json.decode(message.data, type=PingQuery)
        reply = PingedReplica(in_progress=query.requests)
        await message.respond(msgspec.json.encode(reply))

    async def never_reply(_message: Msg) -> None:
        requested.set()

    async with gateway_service(servers, tmp_path, posthog=WITH_SECRET) as running:
        # Plain subscriptions: a service that stops would reply first.
        async with connected(servers, User.PROVISIONER) as bus:
            await bus.client.subscribe(PROVISIONER_HEALTH.subject, cb=reply_to_health)
            await bus.client.subscribe(PROVISIONER_PROVISION.subject, cb=never_reply)
            await bus.client.subscribe(ping_subject(User.PROVISIONER), cb=reply_to_ping)
            await bus.flush()
            waiting = asyncio.create_task(running.http.post(URL, headers=admin()))
            await requested.wait()
        response = await waiting
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert "does not respond" in response.json()["error"]


async def test_a_request_waits_for_a_slow_run(
    servers: Servers, fresh_bus: None, tmp_path: Path, frequent_pings: None
) -> None:
    async with (
        fake_provisioner(servers) as fake,
        gateway_service(servers, tmp_path, posthog=WITH_SECRET) as running,
        received_pings(servers, User.PROVISIONER) as pings,
    ):
        fake.may_finish.clear()
        waiting = asyncio.create_task(running.http.post(URL, headers=admin()))
        await eventually(lambda: len(pings) > 3)
        fake.may_finish.set()
        response = await waiting
    assert (response.status_code, response.json()["action"]) == (200, "created")


async def test_a_request_waits_for_the_run_of_a_stopping_provisioner(
    servers: Servers,
    fresh_bus: None,
    tmp_path: Path,
    frequent_pings: None,
) -> None:
    async with (
        gateway_service(servers, tmp_path, posthog=WITH_SECRET) as running,
        received_pings(servers, User.PROVISIONER) as pings,
    ):
        stack = AsyncExitStack()
        fake = await stack.enter_async_context(fake_provisioner(servers))
        fake.may_finish.clear()
        waiting = asyncio.create_task(running.http.post(URL, headers=admin()))
        await fake.requested.wait()
        before, stopping = len(pings), asyncio.create_task(stack.aclose())
        await eventually(lambda: len(pings) > before + 100 or waiting.done())
        fake.may_finish.set()
        response = await waiting
        await stopping
    assert (response.status_code, response.json()["action"]) == (200, "created")


async def test_an_open_webhook_route_is_closed_after_a_run_whose_secret_is_unknown(
    servers: Servers, database_url: str, fresh_bus: None, tmp_path: Path
) -> None:
    webhook = "/v1/webhooks/posthog"
    async with (
        fake_provisioner(servers),
        gateway_service(servers, tmp_path, wait_for_secret=False) as running,
    ):
        async with credentials_service(servers, database_url):
            await eventually(lambda: running.secret.can_check)
            before = await running.http.post(webhook, json=DELIVERY)
        # A secret may have been generated, and no service runs that could return it.
        provisioned = await running.http.post(URL, headers=admin())
        after = await running.http.post(webhook, json=DELIVERY)
        async with credentials_service(servers, database_url):
            await eventually(lambda: running.secret.can_check)
            later = await running.http.post(webhook, json=DELIVERY)
    assert (before.status_code, provisioned.status_code) == (200, 200)
    assert (after.status_code, later.status_code) == (503, 200)
