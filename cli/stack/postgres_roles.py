"""The roles of the embedded PostgreSQL: one with a password for each service, as with Compose."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

ROLES = ("credentials", "ingest", "provisioner", "analytics")
"""Services with a database; each role owns the schema of its name."""
SUPERUSER = "postgres"

OPEN = "local all all trust\n"
"""`pg_hba.conf` while passwords are set during a start, when no service runs yet."""
CLOSED = "local all all scram-sha-256\n"
"""`pg_hba.conf` from then on."""

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
"""Makes a role the owner of tables that an earlier version created as the superuser."""


async def set_up_roles(
    connection: asyncpg.Connection[asyncpg.Record], database: str, secret: Callable[[str], str]
) -> None:
    """Create the roles, set all passwords, and make each role the owner of its schema.

    Args:
        connection: to `database`, as the superuser.
        database: name of Hogsend's database.
        secret: returns a generated secret by its name.
    """
    async with connection.transaction():
        await _set_password(connection, SUPERUSER, secret(password_name(SUPERUSER)))
        await connection.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        for role in ROLES:
            exists = "SELECT 1 FROM pg_roles WHERE rolname = $1"
            if await connection.fetchval(exists, role) is None:
                await connection.execute(f"CREATE ROLE {role} LOGIN")
            await _set_password(connection, role, secret(password_name(role)))
            await connection.execute(f"GRANT CONNECT, CREATE ON DATABASE {database} TO {role}")
            await connection.execute(_OWN.format(role=role))


def password_name(role: str) -> str:
    """Return the name of the secret that is a role's password."""
    return f"postgres-{'superuser' if role == SUPERUSER else role}"


async def _set_password(
    connection: asyncpg.Connection[asyncpg.Record], role: str, password: str
) -> None:
    # Otherwise a failed statement would be logged with the password.
    await connection.execute("SET LOCAL log_min_error_statement = panic")
    quoted = await connection.fetchval("SELECT quote_literal($1)", password)
    await connection.execute(f"ALTER ROLE {role} PASSWORD {quoted}")
