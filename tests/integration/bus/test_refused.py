"""What a NATS user may not do is said at once, and never after a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from nats.js.api import ConsumerConfig

from hogsend.client.client import Client
from hogsend.contract.credentials import CREDENTIALS_STATUS, ProviderRef
from hogsend.contract.errors import Forbidden
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.faststream import HogsendBroker
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from tests.integration.harness import connected, consumers_of_others
from tests.servers import Servers

pytestmark = pytest.mark.usefixtures("fresh_bus")

LONG = 60.0
"""A deadline that no test waits for."""

Call = Callable[[Connection], Awaitable[object]]


async def asks(connection: Connection) -> None:
    await connection.request(CREDENTIALS_STATUS, ProviderRef(provider_id="posthog"), deadline=LONG)


async def publishes(connection: Connection) -> None:
    await connection.publish("hogsend.webhooks.posthog", b"{}", {}, within=LONG)


async def consumes(connection: Connection) -> None:
    await anext(Client(connection).events(durable="mine"))


async def makes_a_consumer(connection: Connection) -> None:
    config = ConsumerConfig(durable_name="mine", deliver_subject="hogsend.rpc.ingest.purge")
    await Consumer(connection, StreamName.EVENTS, config, batch=1, adjust=False).find()


async def reads_another_stream(connection: Connection) -> None:
    config = ConsumerConfig(durable_name="mine")
    await Consumer(connection, StreamName.WEBHOOKS, config, batch=1, adjust=False).find()


@pytest.fixture(autouse=True)
async def ingest(servers: Servers) -> AsyncIterator[None]:
    async with consumers_of_others(servers):
        yield


@pytest.mark.parametrize("call", [asks, publishes, makes_a_consumer, reads_another_stream])
async def test_a_refusal_is_a_typed_error_at_once(servers: Servers, call: Call) -> None:
    async with connected(servers, User.SUBSCRIBER) as connection, asyncio.timeout(LONG / 4):
        with pytest.raises(Forbidden):
            await call(connection)


@pytest.mark.parametrize("call", [asks, publishes, consumes])
async def test_a_user_that_hears_no_answers_is_told_so(servers: Servers, call: Call) -> None:
    """It goes by another name than its own, and its inbox is somebody else's."""
    connection = Connection("somebody", servers.nats_url(User.GATEWAY))
    await connection.open()
    try:
        async with asyncio.timeout(LONG / 4):
            for _ in range(2):
                with pytest.raises(Forbidden, match="_INBOX_somebody"):
                    await call(connection)
    finally:
        await connection.close()


async def test_an_app_that_may_not_hear_what_it_handles_does_not_start(servers: Servers) -> None:
    broker = HogsendBroker(servers.nats_url(User.SUBSCRIBER), logger=None)

    @broker.subscriber("hogsend.engagement.>")
    async def hear(body: bytes) -> None:
        """Never called."""

    with pytest.raises(Forbidden, match=r"'subscriber' may not subscribe to hogsend\.engagement"):
        await asyncio.wait_for(broker.start(), LONG / 4)
    await broker.stop()
