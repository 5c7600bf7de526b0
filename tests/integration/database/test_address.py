"""Connection URIs of managed servers work for migrations and queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

import services.credentials
from hogsend.service.database import Database
from tests.integration.bus.test_tls import postgres_on_tcp
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS

MIGRATIONS = Path(services.credentials.__file__).with_name("migrations")
PASSWORD = "p@s#s/w:rd?%41"


@pytest.fixture
async def tcp_server(servers: Servers, database_url: str) -> AsyncIterator[tuple[str, int]]:
    """Run PostgreSQL on TCP. Yields a format string for the address, and the port."""
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"CREATE ROLE managed LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    try:
        with postgres_on_tcp(database_url, None) as port:
            yield f"managed:{quote(PASSWORD, safe='')}@{{}}/{name}", port
    finally:
        await connection.execute("DROP OWNED BY managed CASCADE; DROP ROLE managed")
        await connection.close()


async def application_name(url: str) -> str:
    """Migrate and connect as a service does; return the `application_name` that the server has."""
    database = Database(url, "credentials", MIGRATIONS, pool_size=2)
    await asyncio.wait_for(database.connect(), PATIENCE_SECONDS)
    try:
        async with database.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM provider_credentials") == 0
            return str(await connection.fetchval("SHOW application_name"))
    finally:
        await database.close()


async def test_the_uri_of_a_managed_server_works_unchanged(tcp_server: tuple[str, int]) -> None:
    address, port = tcp_server
    parameters = (
        "?channel_binding=prefer&connect_timeout=10&keepalives=1&keepalives_idle=30"
        "&target_session_attrs=read-write&application_name=custom&gssencmode=prefer"
        "&options=-c%20statement_timeout%3D9s"
    )
    assert (
        await application_name(f"postgresql://{address.format(f'127.0.0.1:{port}')}{parameters}")
        == "custom"
    )


async def test_a_service_connects_to_the_first_of_several_hosts_that_responds(
    tcp_server: tuple[str, int],
) -> None:
    address, port = tcp_server
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{port}"
    await application_name(f"postgresql://{address.format(hosts)}?target_session_attrs=primary")
