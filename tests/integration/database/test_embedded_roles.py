"""Roles of the embedded PostgreSQL: each service has its own, also after an upgrade."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from cli.stack.data_directory import DataDirectory
from cli.stack.postgres import EmbeddedPostgres
from cli.stack.supervisor import Supervisor
from tests.open_postgres import OpenPostgres
from tests.waiting import eventually


@asynccontextmanager
async def running(home: DataDirectory, postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    postgres.prepare()
    supervisor = Supervisor(home.logs, lambda _name, _text: None)
    await supervisor.start(postgres.program)
    try:
        await eventually(postgres.ready)
        yield
    finally:
        await supervisor.stop()


async def run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_objects_of_the_superuser_are_transferred_to_the_roles_of_the_services() -> None:
    directory = Path(tempfile.mkdtemp(prefix="hogsend-roles-"))
    home = DataDirectory(directory)
    older = OpenPostgres(home.path / "postgres")
    try:
        async with running(home, older):
            await run(
                older.url,
                "CREATE SCHEMA ingest; CREATE TABLE ingest.events (n int GENERATED ALWAYS AS "
                "IDENTITY); CREATE SCHEMA credentials; CREATE TABLE credentials.tokens (n int)",
            )
        postgres = EmbeddedPostgres(home.path / "postgres", home.secret)
        for _ in range(2):
            async with running(home, postgres):
                ingest = postgres.service_url("ingest")
                await run(ingest, "ALTER TABLE ingest.events ADD COLUMN IF NOT EXISTS m int")
                await run(ingest, "INSERT INTO ingest.events DEFAULT VALUES")
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await run(ingest, "SELECT * FROM credentials.tokens")
                for role in ("postgres", "ingest"):
                    no_password = ingest.replace(f"ingest:{home.secret('postgres-ingest')}", role)
                    with pytest.raises(asyncpg.InvalidPasswordError):
                        await run(no_password, "SELECT 1")
                shell = postgres.psql(home.secret_file("pgpass"))
                assert home.secret("postgres-superuser") not in shell
                count = "SELECT count(*) FROM ingest.events"
                process = subprocess.run(  # noqa: ASYNC221, S602 - users paste it into a shell
                    f"{shell} -Atc '{count}'",
                    shell=True,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                assert int(process.stdout) >= 1
            # A new password is generated, and used from the next start on.
            home.secret_file("postgres-ingest").unlink()
        for log in home.logs.iterdir():
            assert home.secret("postgres-superuser") not in log.read_text()
    finally:
        older.remove_sockets()
        shutil.rmtree(directory, ignore_errors=True)
