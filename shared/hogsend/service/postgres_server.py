"""Requirements on the PostgreSQL server and database, and its timeouts for transactions."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

from hogsend.contract.errors import CannotStart

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

MIN_VERSION = 14
"""The first version with `idle_session_timeout`, which releases the lock of a frozen process."""
ENCODING = "UTF8"
"""Event properties are JSON in any script. PostgreSQL cannot convert all of JSON's text to another
encoding."""

_ABOUT = """
SELECT current_setting('server_version_num')::int / 10000 AS version,
    current_setting('server_encoding') AS encoding, current_database() AS database
"""
_TIME_LIMITS = (
    *("statement_timeout", "lock_timeout"),
    # Since PostgreSQL 17.
    "transaction_timeout",
)
_DISABLE_LIMITS = """
SELECT set_config(name, '0', $2) FROM pg_catalog.pg_settings WHERE name = ANY($1::text[])
"""

IDLE_IN_TRANSACTION = "idle_in_transaction_session_timeout"
"""Name of PostgreSQL's setting."""
IDLE_IN_TRANSACTION_SECONDS = 10.0
"""After this long without a statement PostgreSQL ends a transaction and releases its locks.

Without this timeout a process that is frozen, or whose machine lost its network, would keep its
locks until TCP closes the connection, which takes two hours.
"""


def idle_in_transaction_value() -> str:
    """`IDLE_IN_TRANSACTION_SECONDS` as PostgreSQL's settings write it: in milliseconds."""
    return str(round(IDLE_IN_TRANSACTION_SECONDS * 1000))


async def require_supported(connection: Connection) -> None:
    """Check the version of the server and the encoding of the database.

    Raises:
        CannotStart: one of them is not supported; the message names the supported ones.
    """
    about = await connection.fetchrow(_ABOUT)
    assert about is not None  # noqa: S101 - it selects from no table
    if about["version"] < MIN_VERSION:
        raise CannotStart(
            f"PostgreSQL {about['version']} is too old: Hogsend needs {MIN_VERSION} or newer"
        )
    if about["encoding"] != ENCODING:
        raise CannotStart(
            f"PostgreSQL's database {about['database']} has the encoding {about['encoding']}: "
            f"Hogsend needs one that was made with ENCODING '{ENCODING}' TEMPLATE template0"
        )


async def lift_time_limits(connection: Connection, *, of_session: bool = False) -> None:
    """Disable the time limits on statements, locks and transactions for a long operation.

    The limits in the address, or those that an operator set for a role, are meant for queries.

    Args:
        connection: in a transaction, unless `of_session`.
        of_session: disable the limits for the whole session instead of for its current transaction.
            Not to be used behind a pooler, where other clients would get the session.
    """
    await connection.execute(_DISABLE_LIMITS, _TIME_LIMITS, not of_session)
