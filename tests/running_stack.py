"""Runs a whole stack with `hogsend up` in its own process, and inspects its child processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from dotenv import dotenv_values

from cli.stack.data_directory import DataDirectory
from cli.stack.postgres import EmbeddedPostgres
from cli.stack.settings import ALL_SETTINGS
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}:{ROOT / 'shared'}"


@dataclass
class Up:
    """A running stack."""

    process: asyncio.subprocess.Process
    home: Path
    http: httpx.AsyncClient
    summary: dict[str, Any]

    @property
    def admin(self) -> dict[str, str]:
        """HTTP headers with the generated admin key."""
        return {"Authorization": f"Bearer {Path(self.summary['adminKeyFile']).read_text().strip()}"}

    @property
    def nats_url(self) -> str:
        """NATS address of a subscriber, from `subscriber.env`."""
        return str(dotenv_values(self.summary["subscriberEnvFile"])["NATS_URL"])

    @property
    def app_url(self) -> str:
        """NATS address of an app, from `app.env`."""
        return str(dotenv_values(self.summary["appEnvFile"])["NATS_URL"])

    @property
    def postgres_url(self) -> str:
        """Address of PostgreSQL with its superuser's credentials."""
        home = DataDirectory(self.home)
        return EmbeddedPostgres(home.path / "postgres", home.secret).url

    def child(self, name: str) -> psutil.Process:
        """Return the process of a service, or of `nats` or `postgres`.

        Raises:
            LookupError: no such process runs.
        """
        program = {"nats": "nats-server", "postgres": "postgres"}.get(name)
        for process in psutil.Process(self.process.pid).children():
            try:
                line = process.cmdline()
            except psutil.Error:
                # The process has just been killed, and is about to be restarted.
                continue
            if line and (Path(line[0]).name == program or line[-2:] == ["serve", name]):
                return process
        raise LookupError(name)

    async def post(self, uuid: str) -> int:
        """Post a webhook, and return the HTTP status; 0 if there was no response."""
        body = {
            "event": {"event": "signed_up", "distinct_id": "u_42", "uuid": uuid},
            "person": {"properties": {"email": "ada@example.com"}},
        }
        try:
            return (await self.http.post("/v1/webhooks/posthog", json=body)).status_code
        except httpx.HTTPError:
            return 0

    async def is_healthy(self) -> bool:
        """Whether the gateway reports that the whole stack is healthy."""
        try:
            return bool((await self.http.get("/v1/health")).json()["status"] == "healthy")
        except (httpx.HTTPError, ValueError):
            return False

    async def stored(self) -> int:
        """Return the number of stored events; -1 if the gateway cannot report it."""
        try:
            response = await self.http.get("/v1/admin/events", headers=self.admin)
        except httpx.HTTPError:
            return -1
        return int(response.json()["total"]) if response.is_success else -1


def clean_environment() -> dict[str, str]:
    """Return this process's environment without Hogsend's settings."""
    settings = {name for group in ALL_SETTINGS for name in group.environment_names()}
    return {name: value for name, value in os.environ.items() if name not in settings}


def environment(home: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a stack with free ports and its data in `home`."""
    return {
        **clean_environment(),
        "HOGSEND_HOME": str(home),
        "GATEWAY_PORT": str(free_port()),
        "NATS_PORT": str(free_port()),
        "ADMIN_RATE_LIMIT": "100000",
        "PYTHONPATH": PYTHONPATH,
        **changes,
    }


async def launch(
    variables: dict[str, str], directory: Path, *arguments: str
) -> asyncio.subprocess.Process:
    """Start `hogsend up` without waiting until it is ready."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "up", "--json", *arguments),
        env=variables,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def up(home: Path, directory: Path, *arguments: str, **changes: str) -> AsyncIterator[Up]:
    """Run a stack during the block.

    Args:
        home: for the data of the stack.
        directory: working directory of `hogsend up`.
        arguments: of `hogsend up`.
        changes: settings.
    """
    process = await launch(environment(home, **changes), directory, *arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 180)
        assert line, (await process.stderr.read()).decode()
        summary = json.loads(line)
        async with httpx.AsyncClient(base_url=summary["gateway"], timeout=20) as http:
            yield Up(process, home, http, summary)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


def processes_of(home: Path) -> list[psutil.Process]:
    """Return all running processes of the stack whose data is in `home`."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(home) in " ".join(process.info["cmdline"] or [])
        or (process.info["environ"] or {}).get("SPOOL_DIR", "").startswith(str(home))
    ]
