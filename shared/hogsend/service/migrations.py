"""Migrations of one service's schema: numbered `.sql` files in dbmate's format.

They run on the connections that queries run on, so that whatever leads to PostgreSQL (TLS, several
hosts, a pooler) is understood once. See docs/adr/0016-migrations-over-asyncpg.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import asyncpg
import msgspec
import structlog

from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.postgres_server import (
    STANDSTILL,
    lift_time_limits,
    require_suitable,
    standstill,
)

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
UP, DOWN = "-- migrate:up", "-- migrate:down"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class MigrationFailed(Exception):
    """PostgreSQL refuses a migration; the message names the file and the reason.

    The cause is asyncpg's error. Nothing of that migration is kept.
    """


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    version: str
    name: str
    sql: str


def read(directory: Path) -> list[Migration]:
    """Read a service's migrations in the order in which they are applied."""
    return [_migration(file) for file in sorted(directory.glob("*.sql"))]


async def connect(address: PostgresAddress) -> Connection:
    """Connect as poolers allow: no setting is sent, no statement is prepared by name."""
    return await asyncpg.connect(
        address.dsn,
        timeout=address.connect_seconds or CONNECT_SECONDS,
        statement_cache_size=0,
        server_settings=address.settings or None,
    )


async def migrate(address: PostgresAddress, schema: str, directory: Path) -> None:
    """Apply what is pending; replicas that start together wait for one another.

    Each migration is one transaction, and is noted in it. Of several hosts the one that takes
    writes is migrated.

    Args:
        address: of PostgreSQL.
        schema: the service's own; it is made when missing, and holds the note of what is applied.
        directory: numbered `.sql` files in dbmate's format.

    Raises:
        CannotStart: the server or the database will not do.
        MigrationFailed: PostgreSQL refuses one of them.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL cannot be reached.
    """
    migrations = read(directory)
    connection = await connect(address)
    try:
        await require_suitable(connection)
        while await _apply_next(connection, schema, migrations):
            pass
    finally:
        await end(connection)


async def is_pooled(address: PostgresAddress) -> bool:
    """Whether a pooler, such as PgBouncer, stands before PostgreSQL.

    A pooler lends one server to many, so it makes up the process number that a client is told when
    it connects (protocol 3.0, `BackendKeyData`); PostgreSQL itself tells its own.
    """
    connection = await connect(address)
    try:
        process: int = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()")
        return process != connection.get_server_pid()
    finally:
        await end(connection)


async def _apply_next(connection: Connection, schema: str, migrations: list[Migration]) -> bool:
    """Apply the first pending migration; False when there was none."""
    # A replica that waited for the lock must see what its last holder applied.
    async with connection.transaction(isolation="read_committed"):
        await lift_time_limits(connection)
        # Others that start wait for this one, however long it takes, but not for a frozen one.
        await connection.execute(f"SET LOCAL {STANDSTILL} = {standstill()}")
        # A lock of a session would outlive a transaction in a pooler.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('hogsend.migrations.' || $1, 0))", schema
        )
        applied = await _applied(connection, schema, migrations[-1:])
        pending = [one for one in migrations if one.version not in applied]
        if not pending:
            if newer := sorted(applied - {one.version for one in migrations}):
                log.warning(
                    "the tables belong to a newer version, which may run beside this one",
                    schema=schema,
                    migrations=newer,
                )
            return False
        await _apply(connection, schema, pending[0])
    return True


async def _applied(connection: Connection, schema: str, newest: Sequence[Migration]) -> set[str]:
    # `IF NOT EXISTS` would ask for permissions that a role needs only where something is missing.
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", f'"{schema}"'):
        await connection.execute(f'CREATE SCHEMA "{schema}"')
    table = f'"{schema}".schema_migrations'
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        await connection.execute(f"CREATE TABLE {table} (version varchar PRIMARY KEY)")
        for known in newest:
            # A migration may have to know whether an older version ever ran here.
            await connection.execute(f"COMMENT ON TABLE {table} IS 'began with {known.version}'")
    return {row["version"] for row in await connection.fetch(f"SELECT version FROM {table}")}  # noqa: S608


async def _apply(connection: Connection, schema: str, migration: Migration) -> None:
    try:
        await connection.execute(migration.sql)
        await connection.execute(
            f'INSERT INTO "{schema}".schema_migrations VALUES ($1)',  # noqa: S608
            migration.version,
        )
    except asyncpg.PostgresError as error:
        reason = str(error).partition("\n")[0]
        raise MigrationFailed(f"{migration.name}: {reason} ({error.sqlstate})") from error
    log.info("migrated", schema=schema, migration=migration.name)


def _migration(file: Path) -> Migration:
    text = file.read_text(encoding="utf-8")
    up = text.partition(UP)[2].partition(DOWN)[0]
    # The rest of the marker's line is for dbmate's options.
    return Migration(re.split(r"[_.]", file.name)[0], file.name, up.partition("\n")[2])


async def end(connection: Connection) -> None:
    """Close a connection, within a second."""
    try:
        await connection.close(timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
