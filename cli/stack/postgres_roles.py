"""A role with a password for each service in the embedded PostgreSQL, as Compose has them."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

ROLES = ("credentials", "ingest", "provisioner", "analytics")
"""Services with a database; each role owns the schema of its name."""
SUPERUSER = "postgres"

OPEN = "local all all trust\n"
"""`pg_hba.conf` for the moment of a start in which passwords are set, while no service runs."""
CLOSED = "local all all scram-sha-256\n"

_OWN = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT nspname FROM pg_namespace WHERE nspname = '{role}' LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO %I', one.nspname, '{role}');
    END LOOP;
    -- Sequences of columns follow their tables.
    FOR one IN SELECT relname FROM pg_class
        WHERE relnamespace = to_regnamespace('{role}') AND relkind IN ('r', 'p', 'v', 'm')
          AND relowner <> '{role}'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', '{role}', one.relname, '{role}');
    END LOOP;
END $$
"""
"""Gives a role what an earlier version made in its schema as the superuser."""


async def give_roles(
    connection: asyncpg.Connection[asyncpg.Record], database: str, secret: Callable[[str], str]
) -> None:
    """Make the roles, set all passwords, and give each role its schema.

    Args:
        connection: to `database`, as the superuser.
        database: Hogsend's.
        secret: gives a generated secret, by name.
    """
    async with connection.transaction():
        await _set_password(connection, SUPERUSER, secret(password_name(SUPERUSER)))
        await connection.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        for role in ROLES:
            known = "SELECT 1 FROM pg_roles WHERE rolname = $1"
            if await connection.fetchval(known, role) is None:
                await connection.execute(f"CREATE ROLE {role} LOGIN")
            await _set_password(connection, role, secret(password_name(role)))
            await connection.execute(f"GRANT CONNECT, CREATE ON DATABASE {database} TO {role}")
            await connection.execute(_OWN.format(role=role))


def password_name(role: str) -> str:
    """Name of the secret that is a role's password."""
    return f"postgres-{'superuser' if role == SUPERUSER else role}"


async def _set_password(
    connection: asyncpg.Connection[asyncpg.Record], role: str, password: str
) -> None:
    # A statement that failed would be in the server's log.
    await connection.execute("SET LOCAL log_min_error_statement = panic")
    quoted = await connection.fetchval("SELECT quote_literal($1)", password)
    await connection.execute(f"ALTER ROLE {role} PASSWORD {quoted}")
