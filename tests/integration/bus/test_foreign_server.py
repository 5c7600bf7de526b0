"""A NATS server that is not configured by us: no mappings, and permissions as people have them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cli.stack import nats as nats_server
from hogsend.client.client import Client
from hogsend.contract.consumers import API
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from services.ingest.shared_account import warn_of_shared_account
from tests.integration.harness import connected
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

AS_BEFORE = {
    "publish": ["hogsend.events.*", f"{API}.>", "$JS.ACK.>"],
    "subscribe": [f"{inbox_prefix(User.INGEST)}.>"],
}
"""What the version before was granted, as far as this test goes."""
EVERYTHING = {"publish": [">"], "subscribe": [">"]}


@asynccontextmanager
async def own_server(directory: Path, permissions: dict[str, Any]) -> AsyncIterator[Connection]:
    """A server of the operator's, and ingest's connection to it."""
    port = free_port()
    users = [{"user": User.INGEST, "password": "p", "permissions": permissions}]
    config = {
        "listen": f"127.0.0.1:{port}",
        "jetstream": {"store_dir": str(directory / "store")},
        "authorization": {"users": users},
    }
    file = directory / "nats.conf"
    file.write_text(json.dumps(config))
    process = _started(file)
    connection = Connection(User.INGEST, nats_server.url(User.INGEST, "p", port))
    try:
        await asyncio.wait_for(connection.open(), PATIENCE_SECONDS)
        yield connection
    finally:
        await connection.close()
        process.terminate()
        process.wait(60)


def _started(config: Path) -> subprocess.Popen[bytes]:
    with config.with_name("log").open("wb") as log:
        return subprocess.Popen(nats_server.command(config), stderr=log)


@pytest.mark.parametrize("permissions", [EVERYTHING, AS_BEFORE])
async def test_consumers_are_made_as_jetstream_has_it(
    tmp_path: Path, permissions: dict[str, Any]
) -> None:
    async with own_server(tmp_path, permissions) as connection:
        await streams.reconcile(connection.js, User.INGEST)
        assert await connection.js_for(StreamName.EVENTS) is connection.js
        # A subscriber of this version does without ingest there.
        waiting = asyncio.ensure_future(anext(Client(connection).events("x", durable="mine")))

        async def is_made() -> bool:
            return bool(await connection.js.consumers_info(StreamName.EVENTS))

        await eventually(is_made)
        event = {"id": "1", "event": "x", "source": "hogsend", "userId": "u", "contactKey": "u"}
        times = dict.fromkeys(("occurredAt", "receivedAt"), "2026-01-01T00:00:00Z")
        body = json.dumps({**event, **times, "properties": {}}).encode()
        await connection.publish("hogsend.events.x", body, {})
        assert (await asyncio.wait_for(waiting, PATIENCE_SECONDS)).id == "1"


@pytest.mark.parametrize("permissions", [EVERYTHING, AS_BEFORE])
async def test_an_account_that_everybody_shares_is_said_at_the_start(
    tmp_path: Path, permissions: dict[str, Any]
) -> None:
    async with own_server(tmp_path, permissions) as connection:
        with capture_logs() as logs:
            await warn_of_shared_account(connection)
    (line,) = logs
    assert line["event"].startswith("all NATS users share one account")
    assert "docs/deploy.md" in line["fix"]


async def test_nothing_is_said_of_our_own_configuration(servers: Servers) -> None:
    async with connected(servers, User.INGEST) as connection:
        with capture_logs() as logs:
            await warn_of_shared_account(connection)
        assert logs == []
        with capture_logs() as logs:
            await connection.close()
            await warn_of_shared_account(connection)
    assert [line["event"] for line in logs] == ["the NATS account is not known"]
