"""A cluster on this machine: three NATS servers, PostgreSQL, and two replicas of each service.

The services connect to the servers through proxies that can cut the connections.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import psutil

from cli.stack import nats
from cli.stack.data_directory import DataDirectory
from cli.stack.environment import SERVICE_SETTINGS, environment_for, minimal_environment
from cli.stack.supervisor import Program, Supervisor
from hogsend.contract.users import User
from tests.chaos.cuttable_proxy import CuttableProxy, cuttable_proxy
from tests.nats_cluster import Ports, write_cluster_config
from tests.open_postgres import OpenPostgres
from tests.ports import free_port
from tests.running_stack import ROOT
from tests.waiting import eventually

SERVERS = 3
REPLICAS = 2
READY_SECONDS = 90.0
WITH_TABLES = ("credentials", "ingest", "provisioner", "analytics")


class Balancer(httpx.AsyncBaseTransport):
    """HTTP transport that sends requests to the gateways in turn, like a load balancer.

    If a gateway refuses the connection, the next one is used.
    """

    def __init__(self, ports: list[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._count = len(ports)
        self._http = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(self._count - 1):
            try:
                return await self._send(request)
            except httpx.ConnectError:
                continue
        return await self._send(request)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=next(self._ports))
        return await self._http.handle_async_request(request)

    async def aclose(self) -> None:
        await self._http.aclose()


@dataclass
class Cluster:
    """A running cluster."""

    home: Path
    http: httpx.AsyncClient
    admin: dict[str, str]
    nats_url: str
    postgres_url: str
    proxies: dict[str, CuttableProxy]
    names: list[str]
    """Names of its processes."""
    supervisor: Supervisor
    health: Callable[[], Awaitable[bool]]

    def child(self, name: str) -> psutil.Process:
        """The process of one program."""
        try:
            return psutil.Process(self.supervisor.pid(name))
        except psutil.NoSuchProcess:
            # The process was just killed, and the supervisor is about to start it again.
            raise LookupError(name) from None

    def empty_disk(self, name: str) -> None:
        """Make a NATS server use an empty directory when it is started the next time."""
        file = self.home / f"{name}.conf"
        config = json.loads(file.read_text())
        config["jetstream"]["store_dir"] += "-new"
        file.write_text(json.dumps(config))

    async def is_healthy(self) -> bool:
        """Whether all processes run and all replicas of the streams are current."""
        return not any(map(self.supervisor.exited, self.names)) and await self.health()


@asynccontextmanager
async def cluster(directory: Path, other_checkout: Path = ROOT) -> AsyncIterator[Cluster]:
    """Run a cluster during the block.

    Args:
        directory: directory for its data.
        other_checkout: checkout that the second replica of each service runs, to test an upgrade.
    """
    home = DataDirectory(directory / "home")
    starts: list[str] = []
    supervisor = Supervisor(home.logs, lambda name, text: starts.append(f"{name} {text}"))
    ports = [Ports(*(free_port() for _ in range(4))) for _ in range(SERVERS)]
    postgres = OpenPostgres(home.path / "postgres")
    await asyncio.to_thread(postgres.prepare)
    database_port = free_port()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(supervisor.stop)
        proxies = {}
        for number, port in enumerate(ports, 1):
            await supervisor.start(_nats(home, number, ports))
            proxies[f"nats-{number}"] = await stack.enter_async_context(
                cuttable_proxy(port.advertised, _to_port(port.client))
            )
        await supervisor.start(postgres.program)
        socket = str(postgres.sockets / ".s.PGSQL.5432")
        proxies["postgres"] = await stack.enter_async_context(
            cuttable_proxy(database_port, lambda: asyncio.open_unix_connection(socket))
        )
        await eventually(postgres.ready, READY_SECONDS)
        gateways = [free_port() for _ in range(REPLICAS)]
        # Replicas of the other version start first, as in an upgrade.
        for replica in reversed(range(REPLICAS)):
            for service in reversed(SERVICE_SETTINGS):
                name = f"{service}-{replica + 1}"
                variables = {
                    "GATEWAY_PORT": str(gateways[replica]),
                    "SPOOL_DIR": str(home.path / f"spool-{replica + 1}"),
                    "NATS_URL": _address(home, User(service), ports),
                    "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{database_port}/hogsend",
                }
                checkout = other_checkout if replica else ROOT
                await supervisor.start(_service(home, service, name, checkout, variables))
            await eventually(partial(_has_schemas, postgres.url), READY_SECONDS)
        monitoring = [port.monitoring for port in ports]
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=Balancer(gateways), base_url="http://127.0.0.1", timeout=5)
        )
        plain = await stack.enter_async_context(httpx.AsyncClient(timeout=5))

        async def health() -> bool:
            return await _all_healthy(plain, gateways, monitoring)

        running = Cluster(
            home=home.path,
            http=http,
            admin={"Authorization": f"Bearer {home.secret('admin-api-key')}"},
            nats_url=_address(home, User.SUBSCRIBER, ports),
            postgres_url=postgres.url,
            proxies=proxies,
            names=[
                *(f"nats-{number + 1}" for number in range(SERVERS)),
                "postgres",
                *(
                    f"{service}-{number + 1}"
                    for service in SERVICE_SETTINGS
                    for number in range(REPLICAS)
                ),
            ],
            supervisor=supervisor,
            health=health,
        )
        await eventually(running.is_healthy, READY_SECONDS)
        yield running


async def _has_schemas(url: str) -> bool:
    """Whether the services have created their tables."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT FROM pg_tables WHERE tablename = 'schema_migrations' AND schemaname = ANY($1)",
            WITH_TABLES,
        )
        return len(tables) == len(WITH_TABLES)
    finally:
        await connection.close()


def _nats(home: DataDirectory, number: int, ports: list[Ports]) -> Program:
    passwords = {user: home.secret(f"nats-{user}") for user in User}
    config = write_cluster_config(home.path, number, ports, passwords)
    return Program(f"nats-{number}", nats.command(config), minimal_environment())


def _service(
    home: DataDirectory, service: str, name: str, checkout: Path, variables: dict[str, str]
) -> Program:
    environment = {
        "PYTHONPATH": f"{checkout}:{checkout / 'shared'}",
        "PYTHONUNBUFFERED": "1",
        "ADMIN_API_KEY": home.secret("admin-api-key"),
        "BETTER_AUTH_SECRET": home.secret("better-auth-secret"),
        "ADMIN_RATE_LIMIT": "100000",
        "NATS_REPLICAS": str(SERVERS),
        "LOG_FORMAT": "json",
        **variables,
    }
    command = [sys.executable, "-m", "cli.main", "serve", service]
    return Program(name, command, environment_for(service, environment), directory=home.path)


def _address(home: DataDirectory, user: User, ports: list[Ports]) -> str:
    password = home.secret(f"nats-{user}")
    return ",".join(nats.url(user, password, port.advertised) for port in ports)


def _to_port(
    port: int,
) -> Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    return lambda: asyncio.open_connection("127.0.0.1", port)


async def _all_healthy(http: httpx.AsyncClient, gateways: list[int], monitoring: list[int]) -> bool:
    try:
        for port in monitoring:
            if not (await http.get(f"http://127.0.0.1:{port}/healthz")).is_success:
                return False
        for port in gateways:
            if (await http.get(f"http://127.0.0.1:{port}/v1/health")).json()["status"] != "healthy":
                return False
    except (httpx.HTTPError, ValueError):
        return False
    return True
