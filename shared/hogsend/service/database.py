"""PostgreSQL for one service: its pool, its schema's migrations, and errors as the bus knows them.

A service starts without its database and recovers when it comes back: `keep_connected` keeps
trying, and until it succeeds `acquire` fails fast.

Behind a pooler a connection is another server's from transaction to transaction: settings and locks
of a session are not kept, and reach another client. So each use of a connection is one transaction
there, which finds its schema by a setting of its own.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import structlog

from hogsend.contract.errors import CannotStart, Unavailable
from hogsend.contract.health import DependencyHealth, SchemaHealth
from hogsend.service import metrics
from hogsend.service.migrations import MigrationFailed, connect, end, is_pooled, migrate
from hogsend.service.pool_log import log_causes
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.postgres_server import STANDSTILL, lift_time_limits, standstill
from hogsend.service.retry import retry_until_available
from hogsend.service.settings.shared import DatabaseSettings

log = structlog.get_logger(__name__)

ACQUIRE_SECONDS = 2.0
COMMAND_SECONDS = 10.0
CACHED_STATEMENTS = 100
"""Prepared statements that a connection keeps; none behind a pooler, where they would be kept by
another server than the one that is asked next."""
RETRY_SECONDS = 1.0
"""Longest pause between attempts to connect."""
FIRST_ATTEMPT_SECONDS = 5.0
"""Longest time that a service waits for its first connection before it answers without one."""
SAY_AGAIN_SECONDS = 60.0
"""Pause before the log says again that PostgreSQL refuses what the service's role wants."""
NOT_AVAILABLE = "PostgreSQL is not available"

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What asyncpg raises while the server is missing, starting, stopping, hanging or full, or refuses
a statement or a login for a reason that passes: the same statement may succeed later."""

LOST = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
"""What asyncpg raises when the server came back without what the migrations had made."""

BROKEN = (asyncpg.InternalClientError, asyncpg.ReadOnlySQLTransactionError)
"""What makes a connection useless: asyncpg lost track of one that was cut, or it leads to a server
that has become a standby since."""

DENIED = (asyncpg.InsufficientPrivilegeError,)
"""What asyncpg raises when a privilege that the service's role had was taken away."""

_PASSES = (*AWAY, *BROKEN, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Why a migration may fail and succeed when it is tried again."""
_PLANNING = {"enable_seqscan": "off", "jit": "off", "max_parallel_workers_per_gather": "0"}
"""For statements whose plan a connection keeps: one made while a table is small would read all of
the table for as long as PostgreSQL has not looked at how it grew. Every query here has an index.
And for short ones: to find 500 keys among two million PostgreSQL would rather start two more
processes, which cost more than the keys."""
_ISOLATION = {"default_transaction_isolation": "read committed"}
"""A transaction that waited for a lock must see what its last holder wrote. An operator may have
set a stricter level for a database or a role, where each transaction sees what there was at its
start."""
_WRITTEN = {"datestyle": "ISO"}
"""PostgreSQL tells the bounds of partitions as text. In another style, which an operator may have
set, that has the name of a time zone, and before version 18 PostgreSQL reads India's `IST` as that
of Israel."""
_GRANT = "make the role of DATABASE_URL the owner of the schema and of all that is in it again"
_POOL_SIZE_POOLED = 2
"""Fewest connections behind a pooler: one may hold a lock while another one works below it."""


class _KeepingConnection(asyncpg.Connection):
    """A connection that keeps statements prepared: no pooler stands before its server."""

    keeps_statements = True


class Database:
    """One service's schema in PostgreSQL."""

    def __init__(self, url: str, schema: str, migrations: Path, *, pool_size: int) -> None:
        """Prepare without connecting.

        Args:
            url: PostgreSQL address, see `hogsend.service.postgres_address`.
            schema: the service's own schema, made when missing.
            migrations: directory of numbered `.sql` files in dbmate's format.
            pool_size: connections at most.
        """
        self._address = PostgresAddress.parse(url)
        # asyncpg refuses a subclass of str, such as a member of a StrEnum.
        self._schema = str(schema)
        self._migrations = migrations
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._pooled = False
        self._lost = asyncio.Event()
        self._attempted = asyncio.Event()
        self._denial_said = -math.inf

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
    def pooled(self) -> bool:
        """Whether a pooler, such as PgBouncer, stands before PostgreSQL; known once connected."""
        return self._pooled

    async def keep_connected(self) -> None:
        """Connect, and connect anew whenever what the migrations had made is gone; never ends.

        A server that came back with an empty disk, or was replaced by one, is migrated like a new
        one, without anything being restarted.

        Raises:
            CannotStart: the server will not do, or refuses a migration.
        """
        while True:
            await self.connect()
            self._lost.clear()
            await self._lost.wait()
            metrics.FAILURES.labels("database", "SchemaLost").inc()
            log.error("tables are gone from PostgreSQL; migrating again", schema=self._schema)
            if self._pool is not None:
                self._pool.terminate()
            self._pool = None
            await asyncio.sleep(RETRY_SECONDS)

    async def connect(self) -> None:
        """Migrate and open the pool, retrying until both succeed.

        Raises:
            CannotStart: the server will not do, or refuses a migration, as it always would.
        """
        if self._pool is None:
            await retry_until_available(self._open, wait_max=RETRY_SECONDS)
        log.info("database ready", schema=self._schema)

    async def first_attempt(self) -> None:
        """Wait until the first attempt to connect has ended, well or not, for 5 s at most.

        A replica takes its share of all requests from the moment it listens. One that listened
        before would refuse what the others can do.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ATTEMPT_SECONDS):
                await self._attempted.wait()

    async def close(self) -> None:
        """Close the pool; running statements are cancelled after a moment."""
        if self._pool is not None:
            metrics.DATABASE_CONNECTIONS.clear()
            try:
                async with asyncio.timeout(ACQUIRE_SECONDS):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()

    @asynccontextmanager
    async def acquire(
        self, *, snapshot: bool = False
    ) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """A connection from the pool; behind a pooler the block is one transaction.

        Args:
            snapshot: the block is a transaction that only reads, all of it as of one moment.

        Raises:
            Unavailable: PostgreSQL is not available, or was lost while the block ran.
        """
        pool = self._pool
        if pool is None:
            raise Unavailable(NOT_AVAILABLE)
        try:
            async with _lent(pool) as connection:
                try:
                    async with self._section(connection, snapshot=snapshot):
                        yield connection
                except BROKEN:
                    # The pool must not lend it again.
                    connection.terminate()
                    raise
        except (*AWAY, *LOST, *BROKEN, *DENIED) as error:
            metrics.FAILURES.labels("database", type(error).__name__).inc()
            if isinstance(error, LOST) and pool is self._pool:
                self._lost.set()
            if isinstance(error, DENIED):
                self._say_denied(error)
            raise Unavailable(NOT_AVAILABLE) from error

    @asynccontextmanager
    async def outside_transactions(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection of its own, for a statement that takes long and cannot be in a transaction.

        It knows no schema: names must be whole. It has no time limits, unless an operator set some
        for a role and a pooler stands between.

        Raises:
            Unavailable: as `acquire`, and before the migrations have run.
        """
        if self._pool is None:
            raise Unavailable(NOT_AVAILABLE)
        try:
            connection = await connect(self._address)
            try:
                if not self._pooled:
                    await lift_time_limits(connection, of_session=True)
                yield connection
            finally:
                await end(connection)
        except (*AWAY, *LOST, *BROKEN) as error:
            metrics.FAILURES.labels("database", type(error).__name__).inc()
            raise Unavailable(NOT_AVAILABLE) from error

    @asynccontextmanager
    async def transaction(
        self,
    ) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """A connection and a transaction on it, whose every failure is an outage.

        Raises:
            Unavailable: as `acquire`, and for whatever else PostgreSQL answers.
        """
        try:
            async with self.acquire() as connection, connection.transaction():
                yield connection
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL cannot be used: {type(error).__name__}") from error

    @property
    def _settings(self) -> dict[str, str]:
        """What every statement needs, also behind a pooler."""
        return {"search_path": self._schema, STANDSTILL: standstill(), **_WRITTEN}

    @asynccontextmanager
    async def _section(
        self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], *, snapshot: bool
    ) -> AsyncIterator[None]:
        if not (snapshot or self._pooled):
            yield
            return
        async with connection.transaction(
            isolation="repeatable_read" if snapshot else "read_committed", readonly=snapshot
        ):
            if self._pooled:
                settings = "; ".join(
                    f"SET LOCAL {name} = '{value}'" for name, value in self._settings.items()
                )
                await connection.execute(settings)
            yield

    def _say_denied(self, error: Exception) -> None:
        # It is tried each second. Health shows a PostgreSQL that answers.
        if (now := time.monotonic()) >= self._denial_said + SAY_AGAIN_SECONDS:
            self._denial_said = now
            log.warning("PostgreSQL refuses this service's role", reason=str(error), fix=_GRANT)

    async def _open(self) -> None:
        try:
            await migrate(self._address, self._schema, self._migrations)
            self._pooled = await is_pooled(self._address)
            self._pool = await self._make_pool()
        except MigrationFailed as error:
            if not isinstance(error.__cause__, _PASSES):
                log.error("PostgreSQL refuses a migration", schema=self._schema, reason=str(error))  # noqa: TRY400
                raise CannotStart(
                    f"the migration of PostgreSQL's schema {self._schema} failed: {error}"
                ) from error
            log.warning("PostgreSQL is not available yet", reason=str(error))
            raise Unavailable(NOT_AVAILABLE) from error
        except (*AWAY, asyncpg.PostgresError) as error:
            # The reason may name hosts: it is for the log, and not for the public health.
            log.warning("PostgreSQL is not available yet", reason=_reason(error))
            raise Unavailable(NOT_AVAILABLE) from error
        finally:
            self._attempted.set()

    async def _make_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        settings = self._address.settings
        pool_size = self._pool_size
        connection_class: type[asyncpg.Connection[asyncpg.Record]] = asyncpg.Connection
        if self._pooled:
            log.info("behind a pooler: each use of a connection is one transaction")
            pool_size = max(pool_size, _POOL_SIZE_POOLED)
            cached = 0
        else:
            settings |= {**_PLANNING, **_ISOLATION, **self._settings}
            cached = CACHED_STATEMENTS
            connection_class = _KeepingConnection
        log_causes()
        pool = await asyncpg.create_pool(
            self._address.dsn,
            min_size=1,
            max_size=pool_size,
            command_timeout=COMMAND_SECONDS,
            timeout=self._address.connect_seconds or ACQUIRE_SECONDS,
            server_settings=settings,
            reset=_keep_session,
            statement_cache_size=cached,
            connection_class=connection_class,
        )
        metrics.DATABASE_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
        metrics.DATABASE_CONNECTIONS.labels("used").set_function(
            lambda: pool.get_size() - pool.get_idle_size()
        )
        metrics.DATABASE_CONNECTIONS_LIMIT.set(pool_size)
        return pool

    async def health(self) -> tuple[DependencyHealth, SchemaHealth]:
        """How PostgreSQL answers, and how far the schema is."""
        required = sorted(
            re.split(r"[_.]", path.name)[0] for path in self._migrations.glob("*.sql")
        )
        newest = required[-1] if required else None
        started = time.perf_counter()
        try:
            async with self.acquire() as connection:
                rows = await connection.fetch(
                    "SELECT version FROM schema_migrations ORDER BY version"
                )
        except (Unavailable, asyncpg.PostgresError):
            return (
                DependencyHealth(status="down"),
                SchemaHealth(applied=None, required=newest, pending=[]),
            )
        applied = [str(row["version"]) for row in rows]
        latency = round((time.perf_counter() - started) * 1000, 1)
        return (
            DependencyHealth(status="up", latency_ms=latency),
            SchemaHealth(
                applied=applied[-1] if applied else None,
                required=newest,
                pending=[version for version in required if version not in applied],
            ),
        )


@asynccontextmanager
async def _lent(
    pool: asyncpg.Pool[asyncpg.Record],
) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
    """Lend a connection.

    asyncpg finishes giving it back when the borrower is cancelled meanwhile, and drops it where
    that fails. The outcome is looked at here, or the loop would complain.
    """
    connection = await pool.acquire(timeout=ACQUIRE_SECONDS)
    try:
        yield connection
    finally:
        returning = asyncio.ensure_future(pool.release(connection))
        returning.add_done_callback(_ask_how_it_ended)
        await asyncio.shield(returning)


def _ask_how_it_ended(returned: asyncio.Future[None]) -> None:
    if not returned.cancelled():
        returned.exception()


async def _keep_session(_: object) -> None:
    """Give a connection back as it is.

    asyncpg would reset the session with a round trip each time. Open transactions it ends all the
    same, and the one place that changes a session undoes that itself: `locks.exclusive`.
    """


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[-1] if lines else type(error).__name__
