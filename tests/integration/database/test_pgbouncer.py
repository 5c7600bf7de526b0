"""Services behind PgBouncer with Debian's default configuration, in both pool modes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.service import postgres_server
from hogsend.service.database import Database
from hogsend.service.health import check_database
from hogsend.service.locks import LockScope
from hogsend.service.retention import Retention
from services.analytics.app import MIGRATIONS
from services.ingest import app as ingest
from services.provisioner.destination.store import DestinationStore
from tests.integration.database.test_acquire import lock_of_an_idle_transaction_is_released
from tests.integration.database.test_locks import held_locks, section
from tests.integration.harness import (
    admin,
    analytics_service,
    credentials_service,
    gateway_service,
    provisioner_service,
)
from tests.integration.ingest.driver import ingest_service
from tests.pgbouncer import PROGRAM, pgbouncer
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")

GRANT = {
    "accessToken": "pha_a",
    "refreshToken": "phr_r",
    "expiresAt": "2030-01-01T00:00:00.000Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read", "person:write", "project:read", "hog_function:write"],
    "scopedTeams": [1],
    "scopedOrganizations": ["0190aa51-6a70-0000-5c6d-2b5ea0c8a2d9"],
}
POSTHOG = {"posthog_host": "http://127.0.0.1:1", "posthog_api_key": "phc_x"}


class Pooled(NamedTuple):
    """Addresses of one database."""

    url: str
    """Through PgBouncer."""
    direct: str
    """Without PgBouncer."""


@pytest.fixture(params=["session", "transaction"])
async def pooled(
    request: pytest.FixtureRequest, servers: Servers, database_url: str, tmp_path: Path
) -> AsyncIterator[Pooled]:
    async with pgbouncer(database_url, request.param, tmp_path) as url:
        yield Pooled(url, database_url)


async def count(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def test_services_store_webhooks_and_credentials_through_pgbouncer(
    servers: Servers, pooled: Pooled, fresh_bus: None, tmp_path: Path
) -> None:
    async with (
        credentials_service(servers, pooled.url) as credentials,
        ingest_service(servers, pooled.url),
        provisioner_service(servers, pooled.url, posthog=POSTHOG) as provisioner,
        analytics_service(servers, pooled.url, posthog=POSTHOG) as analytics,
        gateway_service(servers, tmp_path / "spool") as gateway,
    ):
        for service in (credentials, analytics):
            assert service.database.is_behind_pooler
        for number in range(3):
            hook = {"event": {"event": "signed_up", "distinct_id": f"u_{number}"}}
            assert (await gateway.http.post("/v1/webhooks/posthog", json=hook)).status_code == 200
        response = await gateway.http.put(
            "/v1/admin/provider-credentials/posthog", json={"payload": GRANT}, headers=admin()
        )
        assert response.status_code == 200, response.text
        sealed = "SELECT count(*) FROM credentials.provider_credentials WHERE payload !~ 'ph[ar]_'"
        assert await count(pooled.direct, sealed) == 1

        async def are_listed() -> bool:
            events = await gateway.http.get("/v1/admin/events", headers=admin())
            return events.json()["total"] == 3

        await eventually(are_listed)
        async with credentials.store.refresh_lock("posthog") as lock:
            assert (await lock.load()).version > 0
        async with DestinationStore(provisioner.database).lock() as provisioning:
            await provisioning.confirm()
            assert await provisioning.provisioned("1") == {}
        assert (await check_database(credentials.database))[1].pending == []


@pytest.mark.parametrize("scope", list(LockScope))
async def test_a_lock_excludes_other_sections_and_ends_with_its_own(
    pooled: Pooled, scope: LockScope
) -> None:
    database = Database(pooled.url, "analytics", MIGRATIONS, pool_size=6)
    await database.connect()
    table = f"created_in_{scope}"
    try:
        async with section(database, scope) as lock:
            for wait_seconds in (0, 0.05):
                with pytest.raises(Unavailable, match="another replica has the lock"):
                    async with section(database, scope, wait_seconds=wait_seconds):
                        pytest.fail("two at a time")
            async with lock.statements() as connection:
                await connection.execute(f"CREATE TABLE {table} (done boolean)")
            committed = f"SELECT count(to_regclass('analytics.{table}'))"
            # In a section of scope SESSION each statement is committed at once.
            assert await count(pooled.direct, committed) == (scope is LockScope.SESSION)
        assert await held_locks(database) == 0

        effects: list[str] = []

        async def freeze(*, is_executing: bool) -> None:
            async with section(database, scope, idle_seconds=0.2) as lock:
                async with section(database, scope) as other:
                    await other.confirm()
                if is_executing:
                    async with lock.statements() as connection:
                        await connection.execute("SELECT 1")
                        effects.append("a statement of a process without its lock")
                else:
                    await lock.confirm()
                    effects.append("an effect of a process without its lock")

        for is_executing in (True, False):
            with pytest.raises(Unavailable):
                await freeze(is_executing=is_executing)
        assert effects == []
    finally:
        await database.close()


async def test_concurrent_uses_of_pooled_connections_keep_their_own_schema(pooled: Pooled) -> None:
    """Two schemas have a table of the same name; each query must read its own schema's."""
    databases = [
        Database(pooled.url, schema, MIGRATIONS.parents[1] / schema / "migrations", pool_size=8)
        for schema in ("analytics", "provisioner")
    ]
    await asyncio.gather(*(database.connect() for database in databases))

    async def check_schema(database: Database, schema: str) -> None:
        async with database.acquire() as connection:
            assert await connection.fetchval("SELECT current_schema()") == schema
            assert await connection.fetchval("SELECT count(*) FROM destinations") == 0

    try:
        await asyncio.gather(
            *(
                check_schema(database, schema)
                for _ in range(50)
                for database, schema in zip(databases, ("analytics", "provisioner"), strict=True)
            )
        )
    finally:
        for database in databases:
            await database.close()
    # Hogsend's settings are reset on server connections that other clients get.
    connection = await asyncpg.connect(pooled.url, statement_cache_size=0)
    try:
        assert await connection.fetchval("SHOW search_path") == '"$user", public'
    finally:
        await connection.close()


async def test_a_transaction_that_stays_idle_loses_its_locks(
    pooled: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "IDLE_IN_TRANSACTION_SECONDS", 0.2)
    frozen, other = (Database(pooled.url, "analytics", MIGRATIONS, pool_size=2) for _ in range(2))
    for database in (frozen, other):
        await database.connect()
    try:
        await lock_of_an_idle_transaction_is_released(frozen, other)
    finally:
        for database in (frozen, other):
            await database.close()


async def test_a_sweep_deletes_old_rows_through_pgbouncer(pooled: Pooled) -> None:
    database = Database(pooled.url, "ingest", ingest.MIGRATIONS, pool_size=2)
    await database.connect()
    async with database.acquire() as connection:
        await connection.execute(
            "INSERT INTO audit SELECT gen_random_uuid(), now() - days * interval '1 day', "
            "'a', 'b', 'c', 200, 'r', '' FROM generate_series(0, 9) AS days"
        )
    assert await Retention(database, "audit", column="at", days=5).sweep() == 5
    await database.close()
