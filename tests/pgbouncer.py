"""Runs PgBouncer in front of the PostgreSQL of a test run, if it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from cli.stack.postgres_permissions import SYSTEM_USER
from tests.ports import free_port
from tests.waiting import eventually

PROGRAM = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
"""Path of PgBouncer; None if it is not installed (`apt install pgbouncer`, or set `PGBOUNCER`)."""

CONFIG = """
[databases]
* = host={host} port={port} {login}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 20
server_round_robin = 1
"""
"""Debian's configuration, except for the login and `server_round_robin`. The latter uses another
server connection for each transaction where possible: services must not depend on the same one."""


@asynccontextmanager
async def pgbouncer(url: str, mode: str, directory: Path) -> AsyncIterator[str]:
    """Run PgBouncer in front of `url`, and yield its address.

    Args:
        url: of PostgreSQL.
        mode: the pool mode, `session` or `transaction`.
        directory: for its configuration and log.
    """
    assert PROGRAM is not None
    parts, port = urlsplit(url), free_port()
    host = parse_qs(parts.query).get("host", [parts.hostname])[0]
    login = f"user={parts.username or 'postgres'}"
    if parts.password:
        login += f" password={parts.password}"
    config = directory / "pgbouncer.ini"
    config.write_text(
        CONFIG.format(host=host, port=parts.port or 5432, login=login, own=port, mode=mode)
    )
    # PgBouncer refuses to run as root, and only PostgreSQL's user may use its socket directory.
    user = SYSTEM_USER if os.geteuid() == 0 else None
    with (directory / "pgbouncer.log").open("wb") as log, config.open("rb") as opened:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [PROGRAM, f"/dev/fd/{opened.fileno()}"],
            stderr=log,
            user=user,
            extra_groups=[] if user else None,
            pass_fds=[opened.fileno()],
            cwd="/",
        )
    through = f"postgresql://hogsend@127.0.0.1:{port}{parts.path}"
    try:
        await eventually(lambda: _answers(through))
        yield through
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=2, statement_cache_size=0)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True
