"""Password rotation with `deploy/generate_secrets.py`, on real servers."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import nats
import nats.errors
import pytest

from cli.stack.nats import BINARY
from hogsend.contract.users import User
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

DEPLOY = Path(__file__).parents[3] / "deploy"


def generate(directory: Path, *more: str) -> None:
    command = [sys.executable, "-S", str(DEPLOY / "generate_secrets.py"), str(directory), *more]
    subprocess.run(command, check=True, capture_output=True)


@asynccontextmanager
async def nats_of(secrets: Path, directory: Path) -> AsyncIterator[int]:
    """Run a server with the deployment's configuration, as in a container."""
    etc = directory / "etc"
    (etc / "secrets").mkdir(parents=True, exist_ok=True)
    for name in ("passwords.conf", "cluster.conf"):
        (etc / "secrets" / name).write_text((secrets / "nats" / name).read_text())
    config = (DEPLOY / "nats" / "single.conf").read_text()
    (etc / "single.conf").write_text(config.replace('"/data"', f'"{directory / "data"}"'))
    port, monitoring_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(BINARY), "--config", str(etc / "single.conf"), "-a", "127.0.0.1"),
        *("-p", str(port), "-m", str(monitoring_port)),
        env={**os.environ, "SERVER_NAME": "nats", "MAX_FILE_STORE": "1GB", "CLIENT_PORT": "4222"},
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens)
        yield port
    finally:
        process.kill()
        await process.wait()


async def can_log_in(port: int, user: str, password: str) -> bool:
    async def ignore(_error: Exception) -> None:
        """`connect` raises the refusal as well."""

    try:
        client = await nats.connect(
            f"nats://{user}:{password}@127.0.0.1:{port}",
            allow_reconnect=False,
            error_cb=ignore,
        )
    except (nats.errors.Error, OSError):
        return False
    await client.close()
    return True


async def test_a_rotated_nats_password_is_the_only_valid_one(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    generate(secrets)
    file, other = (secrets / user / "nats_password" for user in (User.GATEWAY, User.INGEST))
    earlier: list[str] = []
    for _ in range(3):
        word = file.read_text().strip()
        async with nats_of(secrets, tmp_path) as port:
            assert await can_log_in(port, User.GATEWAY, word)
            assert await can_log_in(port, User.INGEST, other.read_text().strip())
            for retired in earlier:
                assert not await can_log_in(port, User.GATEWAY, retired)
        earlier.append(word)
        generate(secrets, "--rotate", "nats/gateway")


@pytest.mark.parametrize("role", ["ingest", "postgres"])
async def test_each_rotation_of_a_postgresql_password_changes_the_role(
    servers: Servers, tmp_path: Path, role: str
) -> None:
    secrets = tmp_path / "secrets"
    generate(secrets)
    stored: set[str] = set()
    async with servers.fresh_database() as url:
        connection = await asyncpg.connect(url)
        change = connection.transaction()
        await change.start()
        try:
            for line in (secrets / "postgres" / "roles.sql").read_text().splitlines():
                if line.startswith("CREATE ROLE"):
                    await connection.execute(line)
            for _ in range(3):
                await connection.execute((secrets / "postgres" / "passwords.sql").read_text())
                stored.add(
                    await connection.fetchval(
                        "SELECT rolpassword FROM pg_authid WHERE rolname = $1", role
                    )
                )
                generate(secrets, "--rotate", f"postgres/{role}")
        finally:
            # Roles exist in the whole server, which other tests use.
            await change.rollback()
            await connection.close()
    assert len(stored) == 3
    assert all(re.match(r"SCRAM-SHA-256\$", password) for password in stored)
