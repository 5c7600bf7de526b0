"""A NATS server that is too old is reported by the client, services and `hogsend up`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import hogsend
from cli.errors import CommandError
from cli.stack.external_servers import require_nats
from hogsend.contract.errors import CannotStart, Unavailable
from hogsend.contract.users import User
from hogsend.service.app import service_app, started
from hogsend.service.broker import ServiceBroker
from hogsend.transport.connection import Connection
from hogsend.transport.server_version import version_problem


@pytest.mark.parametrize(
    "version", ["2.11.0", "2.11.0-RC.1", "2.12.3", "2.15.1", "3.0.0", "", "dev"]
)
def test_a_supported_or_unknown_version_is_no_problem(version: str) -> None:
    assert version_problem(version) is None


@pytest.mark.parametrize("version", ["2.10.29", "2.9.10", "2.9.0-beta", "1.4.1", "0.9"])
def test_a_version_that_is_too_old_is_a_problem(version: str) -> None:
    assert (
        version_problem(version) == f"nats-server {version} is too old: Hogsend needs 2.11 or newer"
    )


@asynccontextmanager
async def server_of(version: str) -> AsyncIterator[str]:
    """Run a server that sends INFO and answers PINGs; yield its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": version, "max_payload": 1 << 20, "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def old_server() -> AsyncIterator[str]:
    """The address of a server with the version of Debian 12."""
    async with server_of("2.9.10") as address:
        yield address


async def test_a_client_does_not_connect_to_a_server_that_is_too_old(old_server: str) -> None:
    with pytest.raises(Unavailable, match=r"2\.9\.10 is too old: Hogsend needs 2\.11"):
        async with hogsend.connect(old_server):
            pytest.fail("the client has connected")


async def test_a_service_does_not_start_on_a_server_that_is_too_old(old_server: str) -> None:
    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, old_server))
    try:
        with pytest.raises(CannotStart, match=r"2\.9\.10 is too old"):
            async with started(service_app(broker)):
                pytest.fail("the service has started")
    finally:
        await broker.link.close()


async def test_up_reports_a_server_that_is_too_old_before_it_starts_services(
    old_server: str,
) -> None:
    with pytest.raises(CommandError, match=r"2\.9\.10 is too old.*NATS_URL"):
        await require_nats(old_server)
