"""Migrations of one service's schema, applied by dbmate."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from hogsend.service.postgres_address import PostgresAddress

PREFERRING = frozenset({"", "allow", "prefer"})
"""Modes in which asyncpg, as libpq, takes TLS where the server offers it; "" is the default."""
OFFERS_NO_TLS = "SSL is not enabled on the server"
"""What dbmate's driver (github.com/lib/pq, `ErrSSLNotSupported`) says."""


class MigrationFailed(Exception):
    """dbmate did not succeed; the message is its output."""


async def migrate(address: PostgresAddress, schema: str, directory: Path) -> None:
    """Apply what is pending; replicas that start together wait for one another.

    Of several hosts the first one that takes the migrations is migrated: a standby refuses them.

    The database is reached over TLS when asyncpg reaches it so. dbmate knows no mode that prefers
    TLS: where the address asks for none in particular, TLS is tried first.

    Args:
        address: of PostgreSQL.
        schema: where dbmate notes what is applied.
        directory: numbered `.sql` files in dbmate's format.

    Raises:
        MigrationFailed: dbmate could not connect or a migration failed.
    """
    *others, last = address.dsns_of_hosts()
    for url in others:
        try:
            await _migrate_host(url, address, schema, directory)
        except MigrationFailed:
            continue
        return
    await _migrate_host(last, address, schema, directory)


async def _migrate_host(url: str, address: PostgresAddress, schema: str, directory: Path) -> None:
    run = partial(_run, address=address, schema=schema, directory=directory)
    if _asks_for_a_mode(url):
        await run(url)
        return
    try:
        await run(_with_mode(url, "require"))
    except MigrationFailed as error:
        if OFFERS_NO_TLS not in str(error):
            raise
        await run(_with_mode(url, "disable"))


async def _run(url: str, *, address: PostgresAddress, schema: str, directory: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        _dbmate(),
        *("--env", "HOGSEND_MIGRATE_URL", "--no-dump-schema", "--migration-lock"),
        *("--migrations-dir", str(directory)),
        *("--migrations-table", f"{schema}.schema_migrations"),
        "migrate",
        env={**os.environ, "HOGSEND_MIGRATE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        said = output.decode(errors="replace").strip().replace(url, "***")
        if address.password:
            for text in (address.password, quote(address.password, safe="")):
                said = said.replace(text, "***")
        raise MigrationFailed(said)


def _asks_for_a_mode(url: str) -> bool:
    options = dict(parse_qsl(url.partition("?")[2]))
    mode = options.get("sslmode", os.environ.get("PGSSLMODE", ""))
    # dbmate's driver verifies with an authority it is given, unless it is told a mode.
    return mode not in PREFERRING or (not mode and "sslrootcert" in options)


def _with_mode(url: str, mode: str) -> str:
    address, _, query = url.partition("?")
    options = [(name, value) for name, value in parse_qsl(query) if name != "sslmode"]
    return f"{address}?{urlencode([*options, ('sslmode', mode)])}"


def _dbmate() -> str:
    beside_python = Path(sys.executable).with_name("dbmate")
    return str(beside_python) if beside_python.exists() else shutil.which("dbmate") or "dbmate"
