"""What a PostgreSQL server and its database must be like, and its limits for what takes long."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

from hogsend.contract.errors import CannotStart

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OLDEST = 14
"""Its `idle_session_timeout` frees the lock of a process that froze."""
ENCODING = "UTF8"
"""Properties are JSON in any script, and PostgreSQL converts JSON into no other encoding."""

_ABOUT = """
SELECT current_setting('server_version_num')::int / 10000 AS version,
    current_setting('server_encoding') AS encoding, current_database() AS database
"""
_LIMITS = (
    *("statement_timeout", "lock_timeout"),
    # Of PostgreSQL 17.
    "transaction_timeout",
)
_NO_LIMITS = """
SELECT set_config(name, '0', $2) FROM pg_catalog.pg_settings WHERE name = ANY($1::text[])
"""


STANDSTILL = "idle_in_transaction_session_timeout"
"""PostgreSQL's setting of that name."""
STANDSTILL_SECONDS = 10.0
"""How long a transaction may wait for its process until PostgreSQL ends it, with its locks.

A process that is frozen, or on a machine that was cut off, would keep them: until TCP gives it up,
in two hours.
"""


def standstill() -> str:
    """Milliseconds, as PostgreSQL's settings are written."""
    return str(round(STANDSTILL_SECONDS * 1000))


async def require_suitable(connection: Connection) -> None:
    """Check the server and the database that a connection leads to.

    Raises:
        CannotStart: it will not do, and what would.
    """
    about = await connection.fetchrow(_ABOUT)
    assert about is not None  # noqa: S101 - it selects from no table
    if about["version"] < OLDEST:
        raise CannotStart(
            f"PostgreSQL {about['version']} is too old: Hogsend needs {OLDEST} or newer"
        )
    if about["encoding"] != ENCODING:
        raise CannotStart(
            f"PostgreSQL's database {about['database']} has the encoding {about['encoding']}: "
            f"Hogsend needs one that was made with ENCODING '{ENCODING}' TEMPLATE template0"
        )


async def lift_time_limits(connection: Connection, *, of_session: bool = False) -> None:
    """Let the transaction that a connection is in take as long as it takes.

    Limits that the address gives, or that an operator set for a role, are about queries.

    Args:
        connection: in a transaction.
        of_session: lift them for all that follows instead; not behind a pooler, where another
            client would get the session.
    """
    await connection.execute(_NO_LIMITS, _LIMITS, not of_session)
