"""Migrations of one service's schema: numbered `.sql` files in dbmate's format.

asyncpg runs them, as it runs the queries, so that TLS, several hosts and poolers are supported in
one place for both. See docs/adr/0016-migrations-over-asyncpg.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import asyncpg
import msgspec
import structlog

from hogsend.service import postgres_connection
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.postgres_server import (
    IDLE_IN_TRANSACTION,
    idle_in_transaction_value,
    lift_time_limits,
    require_supported,
)

log = structlog.get_logger(__name__)

UP, DOWN = "-- migrate:up", "-- migrate:down"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class MigrationFailed(Exception):
    """PostgreSQL rejected a migration; the message names its file and the reason.

    `__cause__` is asyncpg's error. The transaction of that migration was rolled back.
    """


class Migration(msgspec.Struct, frozen=True):
    """One migration file."""

    version: str
    name: str
    sql: str


def read(directory: Path) -> list[Migration]:
    """Read a service's migrations, in the order in which they are applied."""
    return [_parse(file) for file in sorted(directory.glob("*.sql"))]


def migration_versions(directory: Path) -> list[str]:
    """Return the versions of a service's migrations, in the order in which they are applied."""
    return sorted(map(_version, directory.glob("*.sql")))


async def migrate(address: PostgresAddress, schema: str, directory: Path) -> None:
    """Apply the pending migrations; replicas that start together wait for each other.

    Each migration runs in one transaction, which also records it as applied. When the address has
    several hosts, the one that accepts writes is migrated.

    Args:
        address: of PostgreSQL.
        schema: the service's own schema, created when missing. Its table `schema_migrations`
            records what is applied.
        directory: numbered `.sql` files in dbmate's format.

    Raises:
        CannotStart: the server or the database is not supported.
        MigrationFailed: PostgreSQL rejected a migration.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL cannot be reached.
    """
    migrations = read(directory)
    connection = await postgres_connection.connect(address)
    try:
        await require_supported(connection)
        while await _apply_next(connection, schema, migrations):
            pass
    finally:
        await postgres_connection.close(connection)


async def _apply_next(connection: Connection, schema: str, migrations: list[Migration]) -> bool:
    """Apply the first pending migration; False when none is pending."""
    # A replica that waited for the lock must see what its previous holder applied.
    async with connection.transaction(isolation="read_committed"):
        await lift_time_limits(connection)
        # Other replicas wait for this migration however long it takes, but not for a frozen one.
        await connection.execute(f"SET LOCAL {IDLE_IN_TRANSACTION} = {idle_in_transaction_value()}")
        # Behind a pooler a session's lock would outlive this connection.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('hogsend.migrations.' || $1, 0))", schema
        )
        applied = await _applied_versions(connection, schema, migrations[-1:])
        pending = [migration for migration in migrations if migration.version not in applied]
        if not pending:
            if newer := sorted(applied - {migration.version for migration in migrations}):
                log.warning(
                    "the tables belong to a newer version, which may run beside this one",
                    schema=schema,
                    migrations=newer,
                )
            return False
        await _apply(connection, schema, pending[0])
    return True


async def _applied_versions(
    connection: Connection, schema: str, newest: Sequence[Migration]
) -> set[str]:
    # `CREATE ... IF NOT EXISTS` would need the permission to create even where nothing is missing.
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", f'"{schema}"'):
        await connection.execute(f'CREATE SCHEMA "{schema}"')
    table = f'"{schema}".schema_migrations'
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        await connection.execute(f"CREATE TABLE {table} (version varchar PRIMARY KEY)")
        for migration in newest:
            # A migration may have to know whether an older version has ever run here.
            await connection.execute(
                f"COMMENT ON TABLE {table} IS 'began with {migration.version}'"
            )
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


def _parse(file: Path) -> Migration:
    text = file.read_text(encoding="utf-8")
    up = text.partition(UP)[2].partition(DOWN)[0]
    # The line of the marker may contain options of dbmate.
    return Migration(_version(file), file.name, up.partition("\n")[2])


def _version(file: Path) -> str:
    return re.split(r"[_.]", file.name)[0]
