"""The connection pool of a service: its settings, and how a connection is borrowed from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

from hogsend.service import metrics
from hogsend.service.pool_log import shorten_connection_errors
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.postgres_server import IDLE_IN_TRANSACTION, idle_in_transaction_value

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_SECONDS = 2.0
"""How long a caller waits for a free connection, and by default for one that must be opened."""
COMMAND_SECONDS = 10.0
"""Timeout of one statement."""
CACHED_STATEMENTS = 100
"""Prepared statements that a connection keeps. Behind a pooler a connection keeps none: the next
statement may run on another server connection, which does not have them."""

_PLANNING = {"enable_seqscan": "off", "jit": "off", "max_parallel_workers_per_gather": "0"}
"""Planner settings for prepared statements, whose plans a connection keeps.

A plan that was made while a table was small would scan the whole table until PostgreSQL analyzes it
again. Every query here has an index. Parallel workers cost more than they save: PostgreSQL would
start two processes to find 500 keys among two million rows.
"""
_ISOLATION = {"default_transaction_isolation": "read committed"}
"""A transaction that waited for a lock must see what the previous holder wrote. An operator may
have set a stricter level for the database or the role, which shows each transaction the data of its
start."""
_DATE_STYLE = {"datestyle": "ISO"}
"""PostgreSQL returns the bounds of partitions as text. Other styles, which an operator may have
set, contain the name of a time zone, and before version 18 PostgreSQL reads India's `IST` as that
of Israel."""
_MIN_SIZE_BEHIND_POOLER = 2
"""Behind a pooler one connection may hold a lock while the locked section uses a second one."""


class _PreparingConnection(asyncpg.Connection):
    """A connection straight to PostgreSQL, which keeps prepared statements."""

    keeps_statements = True


def statement_settings(schema: str) -> dict[str, str]:
    """PostgreSQL settings that every statement needs, also behind a pooler."""
    return {
        "search_path": schema,
        IDLE_IN_TRANSACTION: idle_in_transaction_value(),
        **_DATE_STYLE,
    }


async def open_pool(
    address: PostgresAddress, settings: dict[str, str], *, size: int, behind_pooler: bool
) -> Pool:
    """Open the pool and report its size in the metrics.

    Args:
        address: of PostgreSQL, or of a pooler.
        settings: `statement_settings`. Not used behind a pooler, which may refuse settings when a
            connection starts; there each transaction must set them.
        size: maximum number of connections; at least two behind a pooler.
        behind_pooler: whether `address` leads to a pooler.
    """
    server_settings = address.settings
    connection_class: type[asyncpg.Connection[asyncpg.Record]]
    if behind_pooler:
        size = max(size, _MIN_SIZE_BEHIND_POOLER)
        cached_statements, connection_class = 0, asyncpg.Connection
    else:
        server_settings |= {**_PLANNING, **_ISOLATION, **settings}
        cached_statements, connection_class = CACHED_STATEMENTS, _PreparingConnection
    shorten_connection_errors()
    pool = await asyncpg.create_pool(
        address.dsn,
        min_size=1,
        max_size=size,
        command_timeout=COMMAND_SECONDS,
        timeout=address.connect_seconds or ACQUIRE_SECONDS,
        server_settings=server_settings,
        reset=_keep_session,
        statement_cache_size=cached_statements,
        connection_class=connection_class,
    )
    metrics.DATABASE_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
    metrics.DATABASE_CONNECTIONS.labels("used").set_function(
        lambda: pool.get_size() - pool.get_idle_size()
    )
    metrics.DATABASE_CONNECTIONS_LIMIT.set(size)
    return pool


async def close_pool(pool: Pool) -> None:
    """Close the pool; statements that still run after `ACQUIRE_SECONDS` are cancelled."""
    metrics.DATABASE_CONNECTIONS.clear()
    try:
        async with asyncio.timeout(ACQUIRE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def borrow(pool: Pool) -> AsyncIterator[PooledConnection]:
    """Borrow a connection for the block.

    When the block is cancelled while it returns the connection, asyncpg finishes the return in the
    background, or closes the connection where that fails.
    """
    connection = await pool.acquire(timeout=ACQUIRE_SECONDS)
    try:
        yield connection
    finally:
        releasing = asyncio.ensure_future(pool.release(connection))
        releasing.add_done_callback(_retrieve_exception)
        await asyncio.shield(releasing)


def _retrieve_exception(released: asyncio.Future[None]) -> None:
    # asyncio would log an exception that nothing has retrieved.
    if not released.cancelled():
        released.exception()


async def _keep_session(_: object) -> None:
    """Return a connection to the pool without resetting its session.

    asyncpg's reset costs a round trip each time. It is not needed: asyncpg ends open transactions
    in any case, and the one place that changes a session resets it itself (`locks.exclusive`).
    """
