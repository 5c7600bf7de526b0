"""A stack that `hogsend up` runs, in a process of its own, and a look at its children."""

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
        """Headers with the generated admin key."""
        return {"Authorization": f"Bearer {Path(self.summary['adminKeyFile']).read_text().strip()}"}

    @property
    def nats_url(self) -> str:
        """What `subscriber.env` says."""
        return str(dotenv_values(self.summary["subscriberEnvFile"])["NATS_URL"])

    @property
    def app_url(self) -> str:
        """What `app.env` says."""
        return str(dotenv_values(self.summary["appEnvFile"])["NATS_URL"])

    @property
    def postgres_url(self) -> str:
        """Address of PostgreSQL, as its superuser."""
        home = DataDirectory(self.home)
        return EmbeddedPostgres(home.path / "postgres", home.secret).url

    def child(self, name: str) -> psutil.Process:
        """The process of one program of the stack."""
        wanted = {"nats": "nats-server", "postgres": "postgres"}.get(name)
        for process in psutil.Process(self.process.pid).children():
            try:
                line = process.cmdline()
            except psutil.Error:
                # Just killed, and about to be started again.
                continue
            if line and (Path(line[0]).name == wanted or line[-2:] == ["serve", name]):
                return process
        raise LookupError(name)

    async def post(self, uuid: str) -> int:
        """Post a webhook; 0 when nobody answered."""
        body = {
            "event": {"event": "signed_up", "distinct_id": "u_42", "uuid": uuid},
            "person": {"properties": {"email": "ada@example.com"}},
        }
        try:
            return (await self.http.post("/v1/webhooks/posthog", json=body)).status_code
        except httpx.HTTPError:
            return 0

    async def is_healthy(self) -> bool:
        """Whether everything runs and works."""
        try:
            return bool((await self.http.get("/v1/health")).json()["status"] == "healthy")
        except (httpx.HTTPError, ValueError):
            return False

    async def stored(self) -> int:
        """How many events are stored; -1 while nobody can tell."""
        try:
            answer = await self.http.get("/v1/admin/events", headers=self.admin)
        except httpx.HTTPError:
            return -1
        return int(answer.json()["total"]) if answer.is_success else -1


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of ours."""
    known = {name for group in ALL_SETTINGS for name in group.environment_names()}
    return {name: value for name, value in os.environ.items() if name not in known}


def environment(home: Path, **changes: str) -> dict[str, str]:
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
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "up", "--json", *arguments),
        env=variables,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def up(home: Path, directory: Path, *arguments: str, **changes: str) -> AsyncIterator[Up]:
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
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(home) in " ".join(process.info["cmdline"] or [])
        or (process.info["environ"] or {}).get("SPOOL_DIR", "").startswith(str(home))
    ]
