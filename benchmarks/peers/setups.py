"""Starts peers, with their own servers if they need any, and with the run's PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.cost import PATH, SECRET, Setup
from benchmarks.processes import START_SECONDS, process
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

RESTATE = Path(__file__).with_name("restate")
PACKAGES = RESTATE / "node_modules"
_SERVER = PACKAGES / "@restatedev"
_UNFINISHED = "SELECT count(*) AS unfinished FROM sys_invocation WHERE status <> 'completed'"


class NotInstalled(Exception):
    """A peer is not installed. The message states how to install it."""


@asynccontextmanager
async def postgres_receiver(servers: Servers) -> AsyncIterator[Setup]:
    """Run FastAPI, which inserts a row in each request."""

    async def is_stored() -> bool:
        return True

    port = free_port()
    async with (
        servers.fresh_database() as database,
        process(
            *("-m", "benchmarks.peers.fastapi_postgres"),
            DATABASE_URL=database,
            PORT=str(port),
            SECRET=SECRET,
        ),
    ):
        yield Setup(f"http://127.0.0.1:{port}{PATH}", is_stored)


@asynccontextmanager
async def restate_receiver(servers: Servers) -> AsyncIterator[Setup]:
    """Run Restate's server, and a handler in its JavaScript library that inserts a row.

    Raises:
        NotInstalled: the packages are missing.
    """
    server = next(_SERVER.glob("restate-server-*/bin/restate-server"), None)
    node = shutil.which("node")
    if server is None or node is None:
        raise NotInstalled("`npm ci --ignore-scripts` in benchmarks/peers/restate installs it")
    ingress, admin, handler, internal = (free_port() for _ in range(4))
    async with AsyncExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        database = await stack.enter_async_context(servers.fresh_database())
        await stack.enter_async_context(
            program(
                *(str(server), "--no-logo", "--listen-mode", "tcp", "--base-dir", data),
                RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{ingress}",
                RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{admin}",
                RESTATE_BIND_ADDRESS=f"127.0.0.1:{internal}",
                RESTATE_DISABLE_TELEMETRY="true",
                RESTATE_ADMIN__DISABLE_WEB_UI="true",
                RESTATE_LOG_FILTER="warn",
                DO_NOT_TRACK="1",
            )
        )
        await stack.enter_async_context(
            program(
                *(node, str(RESTATE / "receiver.mjs")),
                DATABASE_URL=database,
                PORT=str(handler),
                SECRET=SECRET,
                NODE_ENV="production",
                RESTATE_LOGGING="ERROR",
            )
        )
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin}")
        )

        async def is_registered() -> bool:
            try:
                response = await http.post(
                    "/deployments", json={"uri": f"http://127.0.0.1:{handler}"}, timeout=10
                )
            except httpx.HTTPError:
                return False
            return response.is_success

        async def is_stored() -> bool:
            response = await http.post(
                "/query",
                json={"query": _UNFINISHED},
                headers={"Accept": "application/json"},
                timeout=60,
            )
            response.raise_for_status()
            (row,) = response.json()["rows"]
            return bool(row["unfinished"] == 0)

        await eventually(is_registered, START_SECONDS)
        yield Setup(f"http://127.0.0.1:{ingress}/webhooks/posthog/send", is_stored, keyed=True)


@asynccontextmanager
async def program(*command: str, **variables: str) -> AsyncIterator[None]:
    """Run an external program until the block ends."""
    running = await asyncio.create_subprocess_exec(*command, env={**os.environ, **variables})
    try:
        yield
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()
