"""Single connections to PostgreSQL outside the pool: for migrations and long statements."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

from hogsend.service.postgres_address import PostgresAddress

CONNECT_SECONDS = 10.0
"""Connect timeout where the address has no `connect_timeout`."""
CLOSE_SECONDS = 1.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def connect(address: PostgresAddress) -> Connection:
    """Open a connection that also works through a pooler.

    It sends only the settings that the address contains, and prepares no named statements: a pooler
    may refuse the former, and may run the next statement on another server connection.
    """
    return await asyncpg.connect(
        address.dsn,
        timeout=address.connect_seconds or CONNECT_SECONDS,
        statement_cache_size=0,
        server_settings=address.settings or None,
    )


async def close(connection: Connection) -> None:
    """Close a connection within `CLOSE_SECONDS`; cut it when the server does not respond."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def is_behind_pooler(address: PostgresAddress) -> bool:
    """Whether `address` leads to a pooler, such as PgBouncer, instead of to PostgreSQL itself.

    Compares the process id of the server with the one that was sent when the connection started
    (protocol 3.0, `BackendKeyData`). PostgreSQL sends its own. A pooler shares its server
    connections among its clients, so it sends an id that it made up.
    """
    connection = await connect(address)
    try:
        process: int = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()")
        return process != connection.get_server_pid()
    finally:
        await close(connection)
