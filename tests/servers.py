"""The real servers of a test run: nats-server with our permissions, and PostgreSQL.

They run from the images of `compose.yaml` if a Docker engine has these, else embedded.
`HOGSEND_TEST_SERVERS=images` or `=embedded` forces one of the two.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from nats.aio.client import Client

from cli.stack import nats
from cli.stack.postgres import EmbeddedPostgres
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.users import User
from tests import containers
from tests.open_postgres import OpenPostgres
from tests.ports import free_port
from tests.waiting import eventually

EMPTY = """
DO $$
DECLARE schema_name name;
BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR schema_name IN SELECT nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema_name);
    END LOOP;
    CREATE SCHEMA public;
END $$
"""


@dataclass(frozen=True)
class Servers:
    """Addresses of the running servers."""

    nats_port: int
    postgres_url: str
    _unused: list[str] = field(default_factory=list)
    """Databases of tests that have ended, which can be used again."""

    def nats_url(self, user: User) -> str:
        """Return the address of NATS with a user's credentials."""
        return nats.url(user, _password(user), self.nats_port)

    async def empty_bus(self) -> None:
        """Delete every stream."""
        client = Client()
        operator = User.OPERATOR
        await client.connect(self.nats_url(operator), inbox_prefix=inbox_prefix(operator))
        js = client.jetstream(timeout=30)
        for stream in await js.streams_info():
            await js.delete_stream(str(stream.config.name))
        await client.close()

    @asynccontextmanager
    async def fresh_database(self) -> AsyncIterator[str]:
        """Yield the URL of an empty database.

        A database of an earlier test is emptied and reused, which takes a tenth of the time of
        creating one. It is renamed, so that connections which that test left open cannot use it.
        """
        name = f"test_{uuid.uuid4().hex}"
        admin = await asyncpg.connect(self.postgres_url)
        try:
            if self._unused:
                previous = self._unused.pop()
                await self._empty(previous)
                await admin.execute(f"ALTER DATABASE {previous} RENAME TO {name}")
            else:
                await admin.execute(f"CREATE DATABASE {name} STRATEGY = FILE_COPY")
        finally:
            await admin.close()
        try:
            yield self._database(name)
        finally:
            self._unused.append(name)

    async def _empty(self, name: str) -> None:
        connection = await asyncpg.connect(self._database(name))
        try:
            await connection.execute(EMPTY)
        finally:
            await connection.close()

    def _database(self, name: str) -> str:
        return urlunsplit(urlsplit(self.postgres_url)._replace(path=f"/{name}"))


@asynccontextmanager
async def running_servers() -> AsyncIterator[Servers]:
    """Run both servers on free ports, and delete their data afterwards."""
    choice = os.environ.get("HOGSEND_TEST_SERVERS", "auto")
    from_images = choice == "images" or (choice == "auto" and containers.available())
    async with _containers() if from_images else _embedded() as servers:
        yield servers


@asynccontextmanager
async def _containers() -> AsyncIterator[Servers]:
    passwords = {user: _password(user) for user in User}
    with (
        tempfile.TemporaryDirectory(prefix="hogsend-test-") as directory,
        containers.nats_server(Path(directory), passwords, free_port()) as port,
        containers.postgres(free_port()) as url,
    ):
        await eventually(lambda: _listens(port))
        await eventually(lambda: _accepts_queries(url), 60)
        yield Servers(port, url)


@asynccontextmanager
async def _embedded() -> AsyncIterator[Servers]:
    directory = Path(tempfile.mkdtemp(prefix="hogsend-test-"))
    postgres = OpenPostgres(directory / "postgres")
    postgres.prepare()
    port = free_port()
    config = directory / "nats.conf"
    passwords = {user: _password(user) for user in User}
    nats.write_config(config, port=port, store=directory / "nats", passwords=passwords)
    processes = _start(directory, config, postgres)
    try:
        await eventually(postgres.ready)
        await eventually(lambda: _listens(port))
        yield Servers(port, postgres.url)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(60)
        postgres.remove_sockets()
        shutil.rmtree(directory, ignore_errors=True)


def _start(
    directory: Path, config: Path, postgres: EmbeddedPostgres
) -> list[subprocess.Popen[bytes]]:
    with (directory / "log").open("wb") as log:
        return [
            subprocess.Popen(nats.command(config), stderr=log),
            subprocess.Popen(
                [*postgres.command, *containers.WITHOUT_FSYNC],
                stderr=log,
                user=postgres.user,
                group=pwd.getpwnam(postgres.user).pw_gid if postgres.user else None,
                extra_groups=[] if postgres.user else None,
                cwd=postgres.data,
            ),
        ]


def is_root() -> bool:
    """Whether the tests run as root."""
    return os.geteuid() == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _accepts_queries(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True


def _password(user: User) -> str:
    return f"password-of-{user}"
