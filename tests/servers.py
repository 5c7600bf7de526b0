"""The run's real servers: nats-server with our permissions, and PostgreSQL, both embedded."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from cli.stack import nats
from cli.stack.postgres import EmbeddedPostgres
from hogsend.channels import User
from tests.waiting import eventually


@dataclass(frozen=True)
class Servers:
    """Where the servers are."""

    nats_port: int
    postgres: EmbeddedPostgres

    def nats_url(self, user: User) -> str:
        """Address of NATS with a user's credentials."""
        return nats.url(user, _password(user), self.nats_port)

    @asynccontextmanager
    async def fresh_database(self) -> AsyncIterator[str]:
        """An empty database of its own."""
        name = f"test_{uuid.uuid4().hex}"
        admin = await asyncpg.connect(self.postgres.url)
        try:
            await admin.execute(f"CREATE DATABASE {name}")
            yield self.postgres.url.replace("/hogsend?", f"/{name}?")
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close()


@asynccontextmanager
async def running_servers() -> AsyncIterator[Servers]:
    """Start both servers on a free port and an own directory; nothing is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="hogsend-test-"))
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.prepare()
    port = free_port()
    config = directory / "nats.conf"
    passwords = {user: _password(user) for user in User}
    nats.write_config(config, port=port, store=directory / "nats", passwords=passwords)
    processes = _start(directory, config, postgres)
    try:
        await eventually(postgres.ready, 30)
        await eventually(lambda: _listens(port), 30)
        yield Servers(port, postgres)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(20)
        postgres.remove_sockets()
        shutil.rmtree(directory, ignore_errors=True)


def _start(
    directory: Path, config: Path, postgres: EmbeddedPostgres
) -> list[subprocess.Popen[bytes]]:
    with (directory / "log").open("wb") as log:
        return [
            subprocess.Popen(nats.command(config), stderr=log),
            subprocess.Popen(
                postgres.command,
                stderr=log,
                user=postgres.user,
                group=pwd.getpwnam(postgres.user).pw_gid if postgres.user else None,
                extra_groups=[] if postgres.user else None,
                cwd=postgres.data,
            ),
        ]


def free_port() -> int:
    """A port nobody listens on right now.

    At random and below the range the system hands out, so that nobody takes it meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def is_root() -> bool:
    """Whether the tests run as root."""
    return os.geteuid() == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _password(user: User) -> str:
    return f"password-of-{user}"
