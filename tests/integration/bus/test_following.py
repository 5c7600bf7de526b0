"""`Client.credential_changes` returns the last change after any loss, and no change twice."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hogsend.client.client import Client
from hogsend.client.subscriptions import CredentialChanges
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.faststream.broker import HogsendBroker
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.integration.bus.publishing import publish_change
from tests.integration.harness import connected, consumer_api
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually


class Announcer:
    """Publishes changes, and reads the state of the consumers that follow them."""

    def __init__(self, credentials: Connection, operator: Connection) -> None:
        self._credentials = credentials
        self._operator = operator

    async def change(self, version: int) -> None:
        await publish_change(self._credentials, version)

    async def followers(self) -> list[str]:
        """Return the names of the consumers that follow the changes."""
        followers = await self._operator.js.consumers_info(StreamName.CREDENTIALS)
        return [str(consumer.name) for consumer in followers]

    async def delivered(self) -> list[int]:
        """Return how many changes were delivered to each consumer."""
        followers = await self._operator.js.consumers_info(StreamName.CREDENTIALS)
        return [consumer.delivered.consumer_seq for consumer in followers if consumer.delivered]


@asynccontextmanager
async def announcing(servers: Servers) -> AsyncIterator[Announcer]:
    async with (
        consumer_api(servers),
        connected(servers, User.CREDENTIALS) as credentials,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(credentials.js, User.CREDENTIALS)
        yield Announcer(credentials, operator)


@pytest.fixture
async def changes(servers: Servers, fresh_bus: None) -> AsyncIterator[Announcer]:
    async with announcing(servers) as running:
        yield running


async def next_version(following: CredentialChanges) -> int:
    return (await asyncio.wait_for(anext(following), PATIENCE_SECONDS)).version


async def _returns(read: Callable[[], Awaitable[list[int]]], expected: list[int]) -> bool:
    return await read() == expected


def socket_of(connection: Connection) -> Any:
    """Return the connection's socket."""
    return connection.client._transport._io_writer.transport  # type: ignore[union-attr]


async def test_a_change_lost_in_transit_is_received_after_the_reconnect(
    servers: Servers, changes: Announcer
) -> None:
    async with connected(servers, User.SUBSCRIBER) as subscriber:
        following = Client(subscriber).credential_changes("posthog")
        await changes.change(1)
        assert await next_version(following) == 1
        socket = socket_of(subscriber)
        socket.pause_reading()
        await changes.change(2)
        # The server has sent the change, and the connection breaks before the client reads it.
        await eventually(lambda: _returns(changes.delivered, [2]))
        socket.abort()
        assert await next_version(following) == 2
        await changes.change(3)
        assert await next_version(following) == 3


async def test_a_handler_gets_no_change_twice_after_a_broken_connection(
    servers: Servers, changes: Announcer
) -> None:
    broker, got = HogsendBroker(servers.nats_url(User.SUBSCRIBER)), list[int]()

    @broker.credential_changes("posthog")
    async def changed(change: CredentialChanged) -> None:
        got.append(change.version)

    await broker.start()
    await changes.change(1)
    await eventually(lambda: got == [1])
    before = await changes.followers()
    socket_of(broker.link).abort()

    async def has_new_consumer() -> bool:
        # The new consumer starts with the change that the handler has already received.
        return await changes.followers() != before and await changes.delivered() == [1]

    await eventually(has_new_consumer)
    await changes.change(2)
    await eventually(lambda: 2 in got)
    await broker.stop()
    assert got == [1, 2]


async def test_a_cancelled_wait_loses_no_change(servers: Servers, changes: Announcer) -> None:
    async with connected(servers, User.SUBSCRIBER) as subscriber:
        following = Client(subscriber).credential_changes("posthog")
        await changes.change(1)
        for version in range(1, 6):
            assert await next_version(following) == version
            waiting = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await changes.change(version + 1)


async def test_the_last_of_many_changes_at_once_is_received(
    servers: Servers, changes: Announcer
) -> None:
    async with connected(servers, User.SUBSCRIBER) as subscriber:
        following = Client(subscriber).credential_changes("posthog")
        await changes.change(0)
        assert await next_version(following) == 0
        # More changes than one pull request returns.
        for version in range(1, 101):
            await changes.change(version)
        versions = [await next_version(following)]
        while versions[-1] != 100:
            versions.append(await next_version(following))
        # The stream keeps only the last change, so changes in between may be missing.
        assert versions == sorted(set(versions))


async def test_a_dropped_iterator_leaves_no_subscription(
    servers: Servers, changes: Announcer
) -> None:
    async with connected(servers, User.SUBSCRIBER) as subscriber:
        following = Client(subscriber).credential_changes("posthog")
        await changes.change(1)
        assert await next_version(following) == 1
        listening = len(subscriber.client._subs)
        del following
        gc.collect()
        await eventually(lambda: len(subscriber.client._subs) == listening - 1)
        await eventually(lambda: _returns(changes.delivered, []))


async def test_a_closed_client_leaves_no_consumer(servers: Servers, changes: Announcer) -> None:
    async with connected(servers, User.SUBSCRIBER) as subscriber:
        following = Client(subscriber).credential_changes("posthog")
        await changes.change(1)
        assert await next_version(following) == 1
    assert await changes.delivered() == []
