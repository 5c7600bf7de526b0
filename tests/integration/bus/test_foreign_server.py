"""A NATS server without Hogsend's configuration: it has no mappings, and other permissions."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import ServiceUnavailableError
from structlog.testing import capture_logs

from cli.errors import CommandError
from cli.stack import nats as nats_server
from cli.stack.external_servers import require_nats_access
from hogsend.client.client import Client
from hogsend.contract.consumers import API
from hogsend.contract.errors import Unavailable
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.settings.shared import BusSettings
from hogsend.transport.connection import Connection
from services.ingest.jetstream_errors import available
from services.ingest.shared_account import warn_of_shared_account
from tests.integration.harness import connected
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

EARLIER_PERMISSIONS = {
    "publish": ["hogsend.events.*", f"{API}.>", "$JS.ACK.>"],
    "subscribe": [f"{inbox_prefix(User.INGEST)}.>"],
}
"""Permissions of the previous version, as far as these tests need them."""
EVERYTHING = {"publish": [">"], "subscribe": [">"]}


@asynccontextmanager
async def own_server(
    directory: Path, permissions: dict[str, Any], *, jetstream: bool = True
) -> AsyncIterator[Connection]:
    """Run a server with its own configuration, and connect to it as ingest."""
    port = free_port()
    users = [{"user": User.INGEST, "password": "p", "permissions": permissions}]
    config: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "authorization": {"users": users},
    }
    if jetstream:
        config["jetstream"] = {"store_dir": str(directory / "store")}
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


@pytest.mark.parametrize("permissions", [EVERYTHING, EARLIER_PERMISSIONS])
async def test_consumers_are_created_through_jetstreams_api_without_ingest(
    tmp_path: Path, permissions: dict[str, Any]
) -> None:
    async with own_server(tmp_path, permissions) as connection:
        await streams.reconcile(connection.js, User.INGEST)
        assert await connection.js_for(StreamName.EVENTS) is connection.js
        # A subscriber creates its consumer itself there, without ingest.
        waiting = asyncio.ensure_future(anext(Client(connection).events("x", durable="mine")))

        async def has_consumer() -> bool:
            return bool(await connection.js.consumers_info(StreamName.EVENTS))

        await eventually(has_consumer)
        event = {"id": "1", "event": "x", "source": "hogsend", "userId": "u", "contactKey": "u"}
        times = dict.fromkeys(("occurredAt", "receivedAt"), "2026-01-01T00:00:00Z")
        body = json.dumps({**event, **times, "properties": {}}).encode()
        await connection.publish("hogsend.events.x", body, {})
        assert (await asyncio.wait_for(waiting, PATIENCE_SECONDS)).id == "1"


@pytest.mark.parametrize("permissions", [EVERYTHING, EARLIER_PERMISSIONS])
async def test_an_account_shared_with_other_services_is_logged_at_the_start(
    tmp_path: Path, permissions: dict[str, Any]
) -> None:
    async with own_server(tmp_path, permissions) as connection:
        with capture_logs() as logs:
            await warn_of_shared_account(connection)
    (line,) = logs
    assert line["event"].startswith("all NATS users share one account")
    assert "docs/deploy.md" in line["fix"]


async def test_no_shared_account_is_logged_with_hogsends_configuration(servers: Servers) -> None:
    async with connected(servers, User.INGEST) as connection:
        with capture_logs() as logs:
            await warn_of_shared_account(connection)
        assert logs == []
        with capture_logs() as logs:
            await connection.close()
            await warn_of_shared_account(connection)
    assert [line["event"] for line in logs] == ["the NATS account of this connection is unknown"]


@pytest.mark.parametrize("credentials", ["", "ingest:hunter2@", "token@"])
async def test_up_reports_refused_services_before_it_starts_them(
    tmp_path: Path, credentials: str
) -> None:
    async with own_server(tmp_path, EVERYTHING) as connection:
        address = connection.addresses[0].rpartition("@")[2]
        settings = BusSettings(nats_url=f"nats://{credentials}{address}")
        with pytest.raises(CommandError, match="Authorization Violation") as raised:
            await require_nats_access(settings)
        assert "NATS_USER" in raised.value.fix
        assert "hunter2" not in raised.value.problem
        await require_nats_access(BusSettings(nats_url=connection.addresses[0]))


async def test_up_reports_a_server_without_tls(tmp_path: Path) -> None:
    async with own_server(tmp_path, EVERYTHING) as connection:
        url = connection.addresses[0].replace("nats://", "tls://")
        with pytest.raises(CommandError, match="does not offer it"):
            await require_nats_access(BusSettings(nats_url=url))


async def test_up_reports_a_server_without_jetstream(tmp_path: Path) -> None:
    async with own_server(tmp_path, EVERYTHING, jetstream=False) as connection:
        with pytest.raises(CommandError, match="has JetStream disabled") as raised:
            await require_nats_access(BusSettings(nats_url=connection.addresses[0]))
        assert "--jetstream" in raised.value.fix
        with pytest.raises(ServiceUnavailableError) as refused:
            await streams.reconcile(connection.js, User.INGEST)
        assert "no JetStream" in streams.reason(refused.value)
        assert "--jetstream" in (streams.hint(refused.value) or "")
        with pytest.raises(Unavailable, match="no JetStream answers"), available(connection):
            await connection.js.stream_info(StreamName.EVENTS)


async def test_a_user_without_permission_for_jetstreams_info_is_accepted(tmp_path: Path) -> None:
    async with own_server(tmp_path, EARLIER_PERMISSIONS) as connection:
        await require_nats_access(BusSettings(nats_url=connection.addresses[0]))
