"""asyncpg's errors, grouped by what a service does about them."""

from __future__ import annotations

import asyncpg

UNAVAILABLE = (
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
"""The server is unreachable, starting, stopping, frozen or full, or it refuses a statement or a
login for a temporary reason. The same statement may succeed later."""

SCHEMA_LOST = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
"""The server came back without the tables that the migrations had created."""

CONNECTION_BROKEN = (asyncpg.InternalClientError, asyncpg.ReadOnlySQLTransactionError)
"""The connection must be closed and not be used again. Either it was cut and asyncpg lost track of
the protocol, or its server has become a read-only standby."""

PERMISSION_DENIED = (asyncpg.InsufficientPrivilegeError,)
"""The service's role has lost a privilege that it had."""

MIGRATION_RETRYABLE = (
    *UNAVAILABLE,
    *CONNECTION_BROKEN,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
"""A migration that failed with one of these may succeed when it is run again."""
