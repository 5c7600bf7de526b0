"""A service's schema in PostgreSQL: connected, migrated, and shared through a connection pool.

A service starts without its database and recovers when the database comes back: `keep_connected`
retries in the background, and until it succeeds `acquire` fails at once with `Unavailable`.

A pooler such as PgBouncer may run each transaction of a connection on another server connection. It
does not keep settings and locks of a session, and may hand them to another client. So behind a
pooler each use of a connection is one transaction, which sets the search path and the other
settings that it needs itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import structlog

from hogsend.contract.errors import CannotStart, Unavailable
from hogsend.service import metrics, postgres_connection
from hogsend.service.migrations import MigrationFailed, migrate, migration_versions
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.postgres_connection import is_behind_pooler
from hogsend.service.postgres_errors import (
    CONNECTION_BROKEN,
    MIGRATION_RETRYABLE,
    PERMISSION_DENIED,
    SCHEMA_LOST,
    UNAVAILABLE,
)
from hogsend.service.postgres_pool import (
    Pool,
    PooledConnection,
    borrow,
    close_pool,
    open_pool,
    statement_settings,
)
from hogsend.service.postgres_server import lift_time_limits
from hogsend.service.retry import retry_until_available
from hogsend.service.settings.shared import DatabaseSettings
from hogsend.transport.log_once import LogOnce

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""Longest pause between attempts to connect."""
FIRST_ATTEMPT_SECONDS = 5.0
"""How long a starting service waits for its first attempt to connect before it serves requests."""
DENIED_LOG_SECONDS = 60.0
"""Minimum pause between two warnings that PostgreSQL denies the role a permission."""
MAX_CONNECT_ERRORS = 32
"""How many different errors are logged until a connection succeeds."""
NOT_AVAILABLE = "PostgreSQL is not available"

_PERMISSION_FIX = (
    "make the role in DATABASE_URL the owner of the schema and of all objects in it again"
)


class Database:
    """One service's schema in PostgreSQL."""

    def __init__(self, url: str, schema: str, migrations: Path, *, pool_size: int) -> None:
        """Prepare without connecting.

        Args:
            url: PostgreSQL address, see `hogsend.service.postgres_address`.
            schema: the service's own schema, created when missing.
            migrations: directory of numbered `.sql` files in dbmate's format.
            pool_size: maximum number of connections.
        """
        self._address = PostgresAddress.parse(url)
        # asyncpg refuses a subclass of str, such as a member of a StrEnum.
        self._schema = str(schema)
        self._migrations = migrations
        self._pool_size = pool_size
        self._pool: Pool | None = None
        self._is_behind_pooler = False
        self._schema_lost = asyncio.Event()
        self._attempted = asyncio.Event()
        self._denial_logged_at = -math.inf
        self._connect_errors = LogOnce(MAX_CONNECT_ERRORS)

    @classmethod
    def of(cls, settings: DatabaseSettings, schema: str, migrations: Path) -> Database:
        """Prepare a service's database from its settings."""
        url = settings.database_url.get_secret_value()
        return cls(url, schema, migrations, pool_size=settings.database_pool_size)

    @property
    def schema(self) -> str:
        """The service's own schema."""
        return self._schema

    @property
    def required_migrations(self) -> list[str]:
        """Versions of the schema's migrations, in the order in which they are applied."""
        return migration_versions(self._migrations)

    @property
    def is_behind_pooler(self) -> bool:
        """Whether the address leads to a pooler such as PgBouncer; False until connected."""
        return self._is_behind_pooler

    async def keep_connected(self) -> None:
        """Connect, and reconnect whenever the tables were lost; runs until cancelled.

        A server that came back with an empty disk, or that was replaced by a new one, is migrated
        again without a restart of the service.

        Raises:
            CannotStart: the server is not supported, or it rejects a migration.
        """
        while True:
            await self.connect()
            self._schema_lost.clear()
            await self._schema_lost.wait()
            metrics.FAILURES.labels("database", "SchemaLost").inc()
            log.error("tables are gone from PostgreSQL; migrating again", schema=self._schema)
            if self._pool is not None:
                self._pool.terminate()
            self._pool = None
            await asyncio.sleep(RETRY_SECONDS)

    async def connect(self) -> None:
        """Migrate and open the pool, retrying until both succeed.

        Raises:
            CannotStart: the server is not supported, or it rejects a migration for a reason that a
                retry would not change.
        """
        if self._pool is None:
            await retry_until_available(self._open, wait_max=RETRY_SECONDS)
        self._connect_errors.reset()
        log.info("database ready", schema=self._schema)

    async def wait_for_first_attempt(self) -> None:
        """Wait until the first attempt to connect succeeded or failed, for 5 s at most.

        NATS sends a replica its share of all requests as soon as it has subscribed. A replica that
        subscribes before this attempt would refuse requests that other replicas can answer.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ATTEMPT_SECONDS):
                await self._attempted.wait()

    async def close(self) -> None:
        """Close the pool; statements that still run after two seconds are cancelled."""
        if self._pool is not None:
            await close_pool(self._pool)

    @asynccontextmanager
    async def acquire(self, *, snapshot: bool = False) -> AsyncIterator[PooledConnection]:
        """Borrow a connection from the pool; behind a pooler the block is one transaction.

        Args:
            snapshot: the block is a read-only transaction that sees the data of one moment.

        Raises:
            Unavailable: PostgreSQL is not available, or the connection was lost during the block.
        """
        pool = self._pool
        if pool is None:
            raise Unavailable(NOT_AVAILABLE)
        try:
            async with borrow(pool) as connection:
                try:
                    async with self._transaction_if_needed(connection, snapshot=snapshot):
                        yield connection
                except CONNECTION_BROKEN:
                    # The pool must not lend it again.
                    connection.terminate()
                    raise
        except (*UNAVAILABLE, *SCHEMA_LOST, *CONNECTION_BROKEN, *PERMISSION_DENIED) as error:
            metrics.FAILURES.labels("database", type(error).__name__).inc()
            if isinstance(error, SCHEMA_LOST) and pool is self._pool:
                self._schema_lost.set()
            if isinstance(error, PERMISSION_DENIED):
                self._log_denied(error)
            raise Unavailable(NOT_AVAILABLE) from error

    @asynccontextmanager
    async def outside_transactions(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Open a connection for a long statement that cannot run in a transaction.

        The connection has no search path: statements must write names with their schema. It has no
        time limits either, except behind a pooler where an operator set limits for the role.

        Raises:
            Unavailable: as `acquire`, and before the migrations have run.
        """
        if self._pool is None:
            raise Unavailable(NOT_AVAILABLE)
        try:
            connection = await postgres_connection.connect(self._address)
            try:
                if not self._is_behind_pooler:
                    await lift_time_limits(connection, of_session=True)
                yield connection
            finally:
                await postgres_connection.close(connection)
        except (*UNAVAILABLE, *SCHEMA_LOST, *CONNECTION_BROKEN) as error:
            metrics.FAILURES.labels("database", type(error).__name__).inc()
            raise Unavailable(NOT_AVAILABLE) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PooledConnection]:
        """Borrow a connection with a transaction, and raise every PostgreSQL error as an outage.

        Raises:
            Unavailable: as `acquire`, and for any other error that PostgreSQL returns.
        """
        try:
            async with self.acquire() as connection, connection.transaction():
                yield connection
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL cannot be used: {type(error).__name__}") from error

    @property
    def _statement_settings(self) -> dict[str, str]:
        return statement_settings(self._schema)

    @asynccontextmanager
    async def _transaction_if_needed(
        self, connection: PooledConnection, *, snapshot: bool
    ) -> AsyncIterator[None]:
        if not (snapshot or self._is_behind_pooler):
            yield
            return
        async with connection.transaction(
            isolation="repeatable_read" if snapshot else "read_committed", readonly=snapshot
        ):
            if self._is_behind_pooler:
                settings = "; ".join(
                    f"SET LOCAL {name} = '{value}'"
                    for name, value in self._statement_settings.items()
                )
                await connection.execute(settings)
            yield

    def _log_denied(self, error: Exception) -> None:
        # Work is retried each second. Health does not show this: PostgreSQL itself is up.
        if (now := time.monotonic()) >= self._denial_logged_at + DENIED_LOG_SECONDS:
            self._denial_logged_at = now
            log.warning(
                "PostgreSQL refuses this service's role", reason=str(error), fix=_PERMISSION_FIX
            )

    def _log_connect_error(self, reason: str) -> None:
        # A connection is attempted every second, mostly with the same error.
        if self._connect_errors.is_new(reason):
            log.warning("PostgreSQL is not available yet", reason=reason)

    async def _open(self) -> None:
        try:
            await migrate(self._address, self._schema, self._migrations)
            self._is_behind_pooler = await is_behind_pooler(self._address)
            if self._is_behind_pooler:
                log.info("behind a pooler: each use of a connection is one transaction")
            self._pool = await open_pool(
                self._address,
                self._statement_settings,
                size=self._pool_size,
                behind_pooler=self._is_behind_pooler,
            )
        except MigrationFailed as error:
            if not isinstance(error.__cause__, MIGRATION_RETRYABLE):
                log.error("PostgreSQL refuses a migration", schema=self._schema, reason=str(error))  # noqa: TRY400
                raise CannotStart(
                    f"the migration of PostgreSQL's schema {self._schema} failed: {error}"
                ) from error
            self._log_connect_error(str(error))
            raise Unavailable(NOT_AVAILABLE) from error
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            # The reason may name hosts. It is logged, and not shown in the public health report.
            self._log_connect_error(_reason(error))
            raise Unavailable(NOT_AVAILABLE) from error
        finally:
            self._attempted.set()


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[-1] if lines else type(error).__name__
