"""The steps of a start: NATS, PostgreSQL, then the services, each until it is ready."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from cli.console import err, print_hanging
from cli.errors import CommandError
from cli.local_http import local_http
from cli.stack import disk_space, external_servers, nats, stream_account
from cli.stack.environment import SERVICE_SETTINGS, environment_for, minimal_environment
from cli.stack.postgres import BINARIES, EmbeddedPostgres
from cli.stack.postgres_roles import ROLES
from cli.stack.readiness import is_listening, is_success, is_up, wait_until_ready
from cli.stack.service_command import service_command
from cli.stack.stack import Stack
from cli.stack.supervisor import Program
from hogsend.contract.errors import CannotStart
from hogsend.contract.users import User
from hogsend.service.settings.shared import BusSettings
from services.gateway.listener import INHERITED_SOCKET, listening_socket

METRICS_PORT = 9464
"""Default METRICS_PORT of the first service: OpenTelemetry's port for Prometheus."""

ROOT = Path(__file__).parents[2]
PYTHONPATH = f"{ROOT}:{ROOT / 'shared'}"
"""Makes the services run from this checkout and with its library, whatever else is installed."""


async def start_nats(stack: Stack) -> None:
    """Start nats-server and write its env files; or check the server in `NATS_URL`.

    Raises:
        CommandError: the wheel is missing, the server is not ready in time, or the external server
            does not respond or refuses the services.
    """
    if url := os.environ.get("NATS_URL"):
        await external_servers.require_nats(url)
        await external_servers.require_nats_access(BusSettings())
        stack.nats = "the server in NATS_URL"
        return
    home, port = stack.home, stack.settings.nats_port
    _require_wheel(nats.BINARY, "nats-server", "NATS_URL")
    passwords = {user: home.secret(f"nats-{user}") for user in User}
    config = home.path / "nats.conf"
    store, limits = home.path / "nats", BusSettings().stream_limits
    nats.write_config(config, port=port, store=store, passwords=passwords, limits=limits)
    stream_account.adopt(store)
    disk_space.warn_if_scarce(home.path, limits)
    await stack.supervisor.start(Program("nats", nats.command(config), minimal_environment()))
    await wait_until_ready(stack.supervisor, "nats", lambda: is_listening(port))
    stack.write_env_files()
    stack.nats = f"nats://127.0.0.1:{port}"


async def start_postgres(stack: Stack) -> None:
    """Start PostgreSQL; or check the server in `DATABASE_URL`.

    Raises:
        CommandError: the wheel is missing, the server cannot be set up or is not ready in time, or
            the external server does not respond.
    """
    if url := os.environ.get("DATABASE_URL"):
        await external_servers.require_postgres(url)
        stack.database = "the server in DATABASE_URL"
        return
    _require_wheel(BINARIES / "postgres", "PostgreSQL", "DATABASE_URL")
    postgres = EmbeddedPostgres(stack.home.path / "postgres", stack.home.secret)
    try:
        opened = await asyncio.to_thread(postgres.prepare)
    except Exception as error:
        raise CommandError(
            f"PostgreSQL cannot be set up in {postgres.data} ({error})",
            "set DATABASE_URL to a server of your own, or HOGSEND_HOME to another directory",
        ) from error
    for directory in opened:
        print_hanging(
            err,
            ("note: ", "yellow"),
            f"{directory} was made traversable for every user (chmod a+x), because PostgreSQL "
            "cannot run as root",
        )
    await stack.supervisor.start(postgres.program)
    await wait_until_ready(stack.supervisor, "postgres", postgres.ready)
    stack.database = postgres.psql(stack.home.secret_file("pgpass"))


async def start_services(stack: Stack) -> None:
    """Start every service and wait until all are up.

    Raises:
        CommandError: a service is not ready in time.
    """
    # Opened in this process, so that connections wait while the gateway is restarted.
    listening = _listen(stack)
    for service in reversed(SERVICE_SETTINGS):
        variables = environment_for(service, _defaults(stack, service))
        variables.update(_metrics_port(service))
        sockets = [listening] if service == "gateway" and listening is not None else []
        for one in sockets:
            variables[INHERITED_SOCKET] = str(one.fileno())
        program = Program(
            service,
            service_command(service),
            variables,
            directory=stack.directory,
            sockets=sockets,
        )
        await stack.supervisor.start(program)
    async with local_http(stack.base_url, timeout=2.0) as http:
        await wait_until_ready(stack.supervisor, "gateway", lambda: is_success(http, "/livez"))
        # Before the gateway's readiness, which depends on them: if one fails, its log is shown.
        for service in reversed(SERVICE_SETTINGS):
            if service != "gateway":
                await wait_until_ready(
                    stack.supervisor,
                    service,
                    lambda name=service: is_up(http, name),  # type: ignore[misc]
                )
        await wait_until_ready(stack.supervisor, "gateway", lambda: is_success(http, "/readyz"))


def _metrics_port(service: str) -> dict[str, str]:
    """Return METRICS_PORT of a service. On one machine each service needs its own port."""
    first = os.environ.get("METRICS_PORT") or str(METRICS_PORT)
    if not first.isdecimal() or int(first) == 0:
        return {}
    return {"METRICS_PORT": str(int(first) + list(SERVICE_SETTINGS).index(service))}


def _listen(stack: Stack) -> socket.socket | None:
    """Open the gateway's socket; return None for several workers, which open their own.

    While one of several workers restarts, the others accept connections.

    Raises:
        CommandError: the port is in use.
    """
    gateway = stack.gateway
    try:
        listening = listening_socket(
            gateway.gateway_host,
            gateway.gateway_port,
            share=gateway.gateway_share_port,
            unread_seconds=gateway.http_request_timeout_seconds,
            environment={},
        )
    except CannotStart as error:
        raise CommandError(str(error), "set GATEWAY_PORT to another port") from error
    if gateway.gateway_workers == 1:
        return listening
    listening.close()
    return None


def _defaults(stack: Stack, service: str) -> dict[str, str]:
    """Return the settings of a service that apply if the operator sets none."""
    home = stack.home
    defaults = {
        "PYTHONPATH": PYTHONPATH,
        "PYTHONUNBUFFERED": "1",
        "SPOOL_DIR": str(home.path / "spool"),
        "API_PUBLIC_URL": f"http://localhost:{stack.gateway.gateway_port}",
        "ADMIN_API_KEY": home.secret("admin-api-key"),
        "BETTER_AUTH_SECRET": home.secret("better-auth-secret"),
    }
    if service in ROLES:
        postgres = EmbeddedPostgres(home.path / "postgres", home.secret)
        defaults["DATABASE_URL"] = postgres.service_url(service)
    if not os.environ.get("NATS_URL"):
        defaults["NATS_URL"] = stack.nats_url(User(service))
    return defaults


def _require_wheel(program: Path, name: str, setting: str) -> None:
    if not program.exists():
        raise CommandError(
            f"{name} is not installed ({program} is missing)",
            f"run `make install`, or set {setting} to a server of your own",
        )
