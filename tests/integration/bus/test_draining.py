"""A service that is told to stop answers what it was asked before."""

from __future__ import annotations

import asyncio

from hogsend.contract.credentials import CREDENTIALS_WEBHOOK_SECRET, ProviderRef, WebhookSecretReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.users import User
from hogsend.service.serving import Handler, serve
from hogsend.transport.connection import Connection
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import eventually

ASKED = ProviderRef(provider_id="posthog")


async def test_a_request_under_way_is_answered_and_no_other_is_taken(servers: Servers) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: ProviderRef) -> WebhookSecretReply:
        asked.set()
        await go_on.wait()
        return WebhookSecretReply(version=7, state="absent")

    async with connected(servers, User.CREDENTIALS) as own, connected(servers, User.GATEWAY) as bus:
        serving = await serve(own, User.CREDENTIALS, [Handler(CREDENTIALS_WEBHOOK_SECRET, answer)])
        await own.flush()
        waiting = asyncio.create_task(bus.request(CREDENTIALS_WEBHOOK_SECRET, ASKED, deadline=20))
        await asked.wait()
        stopping = asyncio.create_task(serving.stop())
        await _refused(bus)
        assert not stopping.done()
        go_on.set()
        assert (await waiting).version == 7
        await stopping


async def _refused(bus: Connection) -> None:
    async def is_refused() -> bool:
        try:
            await bus.request(CREDENTIALS_WEBHOOK_SECRET, ASKED, deadline=0.2)
        except Unavailable as error:
            return "not running" in str(error)
        return False

    await eventually(is_refused)
