"""A connection to a real server: its password and permissions, and its end while it opens."""

from __future__ import annotations

import asyncio

import nats.errors
import pytest
from nats.aio.client import Srv

import hogsend
from hogsend.client.client import Client
from hogsend.contract.errors import Forbidden
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from hogsend.transport.nats_client import NatsClient
from tests.integration.bus.publishing import two_sides
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS


async def test_a_connection_that_is_closed_while_it_opens_stays_closed(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_connect, connect = asyncio.Event(), NatsClient._connect_to_server

    async def connect_late(client: NatsClient, server: Srv) -> None:
        await may_connect.wait()
        await connect(client, server)

    monkeypatch.setattr(NatsClient, "_connect_to_server", connect_late)
    connection = Connection(User.SUBSCRIBER, servers.nats_url(User.SUBSCRIBER))
    opening = asyncio.create_task(connection.open())
    await asyncio.sleep(0)
    await connection.close()
    may_connect.set()
    with pytest.raises(nats.errors.ConnectionClosedError):
        await opening
    assert not connection.connected


async def test_a_user_without_permission_for_events_gets_a_typed_error(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers), connected(servers, User.GATEWAY) as gateway:
        with pytest.raises(Forbidden, match="'gateway' may not publish"):
            await anext(Client(gateway).events("signed_up"))


async def test_a_write_without_permission_fails_at_once(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers) as (_, subscriber):
        client = Client(subscriber)
        with pytest.raises(Forbidden, match="'subscriber' may not publish to"):
            await client.capture("signed_up", "u_42")
        with pytest.raises(Forbidden):
            await client.persons.set("u_42", {"plan": "pro"})


async def test_a_password_in_an_address_is_decoded(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers):
        url = servers.nats_url(User.SUBSCRIBER)
        scheme, _, rest = url.partition("://")
        credentials, _, address = rest.rpartition("@")
        name, _, password = credentials.partition(":")
        escaped = "".join(f"%{byte:02X}" for byte in password.encode())
        subscriber = Connection(User.SUBSCRIBER, f"{scheme}://{name}:{escaped}@{address}")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await subscriber.open()
        await subscriber.close()


async def test_a_cancelled_connect_leaves_no_connection(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[Connection]()
    open_connection = Connection.open

    async def connect() -> None:
        async with hogsend.connect(servers.nats_url(User.SUBSCRIBER)):
            raise AssertionError("the cancelled connect has returned")

    async def cancel_while_opening(connection: Connection) -> None:
        await open_connection(connection)
        opened.append(connection)
        connecting.cancel()

    monkeypatch.setattr(Connection, "open", cancel_while_opening)
    connecting = asyncio.create_task(connect())
    await asyncio.wait({connecting})
    assert connecting.cancelled()
    assert opened[0].client.is_closed


async def test_a_wrong_password_is_reported(servers: Servers, fresh_bus: None) -> None:
    url = servers.nats_url(User.SUBSCRIBER)
    scheme, _, rest = url.partition("://")
    address = rest.rpartition("@")[2]
    for wrong in (f"{scheme}://subscriber:wrong@{address}", f"{scheme}://stranger:any@{address}"):
        # The refusal is raised long before the `wait` for the first connection has passed.
        async with asyncio.timeout(60):
            with pytest.raises(Forbidden, match="password in NATS_URL") as raised:
                async with hogsend.connect(wrong, wait=3600):
                    pytest.fail("the wrong password was accepted")
        assert "wrong" not in str(raised.value)
