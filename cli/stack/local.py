"""The whole stack on this machine: what is started, in which order, and when it is ready."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from cli.console import err
from cli.errors import CommandError
from cli.stack import nats
from cli.stack.environment import READS, environment_for, nothing_but_path
from cli.stack.home import Home, write_private
from cli.stack.ports import require_free
from cli.stack.postgres import BINARIES, EmbeddedPostgres
from cli.stack.settings import StackSettings
from cli.stack.supervisor import Program, Supervisor
from cli.summary import Summary
from hogsend.contract.streams import GIB
from hogsend.contract.users import DEPRECATED_USERS, User
from hogsend.service.settings import BusSettings
from services.gateway.settings import GatewaySettings

READY_SECONDS = 60.0
LOOK_SECONDS = 0.1
LOG_LINES = 15
MAX_STARTS = 3
"""A process that ended this often before it was ready will not be."""

ROOT = Path(__file__).parents[2]


@dataclass
class Stack:
    """What is started, and where it ended up."""

    home: Home
    gateway: GatewaySettings
    settings: StackSettings
    supervisor: Supervisor
    starts: dict[str, int] = field(default_factory=dict)
    beside: Sequence[Program] = ()
    """Programs started before everything else."""
    directory: Path = field(default_factory=Path.cwd)
    """Where services run, and look for `.env`."""
    nats: str = ""
    database: str = ""

    @property
    def base_url(self) -> str:
        """Where the gateway can be reached from this machine."""
        host = self.gateway.gateway_host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
        return f"http://{reachable}:{self.gateway.gateway_port}"

    @property
    def subscriber_url(self) -> str:
        """Address of the NATS server started here, for services that only listen."""
        return self._url_for(User.SUBSCRIBER)

    @property
    def app_url(self) -> str:
        """The same for services that also report engagement, write persons and ask analytics."""
        return self._url_for(User.APP)

    def env_file(self, user: User) -> Path:
        """File with the NATS address of a user, for services and people outside the stack."""
        return self.home.path / f"{user}.env"

    def write_env_files(self) -> None:
        """Write those files for every user that is not one of our own services."""
        for user in (User.SUBSCRIBER, User.APP, User.OPERATOR, *DEPRECATED_USERS):
            current = DEPRECATED_USERS.get(user)
            note = f"# Deprecated: use {current}.env\n" if current else ""
            write_private(self.env_file(user), f"{note}NATS_URL={self._url_for(user)}\n")

    def _url_for(self, user: User) -> str:
        return nats.url(user, self.home.secret(f"nats-{user}"), self.settings.nats_port)

    @property
    def admin_key(self) -> str:
        """The key for `/v1/admin/*`: the operator's, else the generated one."""
        return os.environ.get("ADMIN_API_KEY") or self.home.secret("admin-api-key")


Story = Callable[[Stack, Summary], Awaitable[bool]]
"""What happens once everything is ready; True keeps the stack running until it is stopped."""


def require_ports(gateway: GatewaySettings, settings: StackSettings) -> None:
    """Check the ports before anything is started.

    Raises:
        CommandError: one is taken.
    """
    require_free(gateway.gateway_host, gateway.gateway_port, "GATEWAY_PORT", "the gateway")
    if not os.environ.get("NATS_URL"):
        require_free("127.0.0.1", settings.nats_port, "NATS_PORT", "NATS")


async def run(
    home: Home,
    gateway: GatewaySettings,
    settings: StackSettings,
    story: Story,
    *,
    beside: Sequence[Program] = (),
    directory: Path | None = None,
) -> None:
    """Start everything, tell `story`, and stop everything at the end, or at Ctrl-C or SIGTERM.

    Args:
        home: where data, secrets and logs are kept.
        gateway: where the gateway listens.
        settings: where NATS listens.
        story: what happens once everything is ready.
        beside: programs to start first.
        directory: where services run and look for `.env`; the current one by default.

    Raises:
        CommandError: something does not start.
    """
    starts: dict[str, int] = {}

    def report(name: str, what: str) -> None:
        starts[name] = starts.get(name, 0) + 1
        err.print(f"[dim]{datetime.now():%H:%M:%S}[/] [bold]{name}[/] {what}")  # noqa: DTZ005

    supervisor = Supervisor(home.logs, report)
    stack = Stack(home, gateway, settings, supervisor, starts, beside, directory or Path.cwd())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    telling = asyncio.create_task(_tell(stack, story))
    try:
        await asyncio.wait({telling, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done() and telling.result():
            await stopped
    finally:
        telling.cancel()
        stopped.cancel()
        await asyncio.gather(telling, stopped, return_exceptions=True)
        with err.status("stopping"):
            await supervisor.stop()


async def _tell(stack: Stack, story: Story) -> bool:
    return await story(stack, await _start(stack))


async def _start(stack: Stack) -> Summary:
    steps: list[tuple[str, Callable[[Stack], Awaitable[None]]]] = [
        ("NATS", _start_nats),
        ("PostgreSQL", _start_postgres),
        ("services", _start_services),
    ]
    for program in stack.beside:
        await stack.supervisor.start(program)
    with err.status("starting") as progress:
        for name, step in steps:
            progress.update(f"starting {name}")
            if not err.is_terminal:
                err.print(f"starting {name}")
            await step(stack)
    generated = not os.environ.get("ADMIN_API_KEY")
    embedded = not os.environ.get("NATS_URL")
    base = stack.base_url
    return Summary(
        gateway=base,
        docs=f"{base}/docs",
        nats=stack.nats,
        database=stack.database,
        admin_key_file=str(stack.home.secret_file("admin-api-key")) if generated else None,
        subscriber_env_file=str(stack.env_file(User.SUBSCRIBER)) if embedded else None,
        app_env_file=str(stack.env_file(User.APP)) if embedded else None,
        member_env_file=str(stack.env_file(User.MEMBER)) if embedded else None,
        logs=str(stack.home.logs),
        webhook_open=await _webhook_open(stack, base),
    )


async def _start_nats(stack: Stack) -> None:
    if os.environ.get("NATS_URL"):
        stack.nats = "the server NATS_URL names"
        return
    home, port = stack.home, stack.settings.nats_port
    _require_wheel(nats.BINARY, "nats-server", "NATS_URL")
    passwords = {user: home.secret(f"nats-{user}") for user in User}
    config = home.path / "nats.conf"
    store, limits = home.path / "nats", BusSettings().stream_limits
    nats.write_config(config, port=port, store=store, passwords=passwords, limits=limits)
    if (free := shutil.disk_usage(home.path).free) < limits.total_bytes():
        err.print(
            f"[yellow]note:[/] {home.path} has {free / GIB:.1f} GiB left, and streams may take "
            f"{limits.total_bytes() / GIB:.1f}: set NATS_STREAM_MAX_BYTES lower, or HOGSEND_HOME "
            "to a larger disk"
        )
    await stack.supervisor.start(Program("nats", nats.command(config), nothing_but_path()))
    await _until(stack, "nats", lambda: _listening(port))
    stack.write_env_files()
    stack.nats = f"nats://127.0.0.1:{port}"


async def _start_postgres(stack: Stack) -> None:
    if os.environ.get("DATABASE_URL"):
        stack.database = "the server DATABASE_URL names"
        return
    _require_wheel(BINARIES / "postgres", "PostgreSQL", "DATABASE_URL")
    postgres = EmbeddedPostgres(stack.home.path / "postgres")
    try:
        opened = await asyncio.to_thread(postgres.prepare)
    except Exception as error:
        raise CommandError(
            f"PostgreSQL cannot be set up in {postgres.data} ({error})",
            "set DATABASE_URL to a server of your own, or HOGSEND_HOME to another directory",
        ) from error
    for directory in opened:
        err.print(
            f"[yellow]note:[/] {directory} can now be passed through by every user (chmod a+x): "
            "PostgreSQL does not run as root",
            soft_wrap=True,
        )
    await stack.supervisor.start(postgres.program)
    await _until(stack, "postgres", postgres.ready)
    stack.database = postgres.psql


async def _start_services(stack: Stack) -> None:
    for service in reversed(READS):
        program = Program(
            service,
            [sys.executable, "-m", "cli.main", "serve", service],
            environment_for(service, _given(stack, service)),
            directory=stack.directory,
        )
        await stack.supervisor.start(program)
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=2.0) as http:
        await _until(stack, "gateway", lambda: _answers(http, "/livez"))
        # Before the gateway's readiness, which depends on them: the log shown is the right one.
        for service in reversed(READS):
            if service != "gateway":
                await _until(stack, service, lambda name=service: _up(http, name))  # type: ignore[misc]
        await _until(stack, "gateway", lambda: _answers(http, "/readyz"))


def _given(stack: Stack, service: str) -> dict[str, str]:
    """Settings for what the operator left unset."""
    home = stack.home
    given = {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "SPOOL_DIR": str(home.path / "spool"),
        "API_PUBLIC_URL": f"http://localhost:{stack.gateway.gateway_port}",
        "ADMIN_API_KEY": home.secret("admin-api-key"),
        "BETTER_AUTH_SECRET": home.secret("better-auth-secret"),
        "DATABASE_URL": EmbeddedPostgres(home.path / "postgres").url,
    }
    if not os.environ.get("NATS_URL"):
        password = home.secret(f"nats-{service}")
        given["NATS_URL"] = nats.url(User(service), password, stack.settings.nats_port)
    return given


async def _until(stack: Stack, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a process is ready.

    Raises:
        CommandError: it ends again and again, or takes too long.
    """
    try:
        async with asyncio.timeout(READY_SECONDS):
            while stack.starts.get(name, 0) < MAX_STARTS:
                if await ready():
                    return
                await asyncio.sleep(LOOK_SECONDS)
        problem = f"{name} ends as soon as it is started"
    except TimeoutError:
        problem = f"{name} was not ready within {READY_SECONDS:.0f} s"
    log = stack.supervisor.log_file(name)
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    raise CommandError("\n  ".join([f"{problem}; the end of {log}:", *lines]), _hint())


def _hint() -> str:
    named = [name for name in ("NATS_URL", "DATABASE_URL") if os.environ.get(name)]
    if named:
        return f"make sure that the server {' or '.join(named)} names can be reached from here"
    return "correct what the log says, then start again; the data is kept"


def _require_wheel(program: Path, what: str, setting: str) -> None:
    if not program.exists():
        raise CommandError(
            f"{what} is not installed ({program} is missing)",
            f"run `make install`, or set {setting} to a server of your own",
        )


async def _listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def _answers(http: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await http.get(path)).is_success
    except httpx.HTTPError:
        return False


async def _up(http: httpx.AsyncClient, service: str) -> bool:
    try:
        health: dict[str, Any] = (await http.get("/v1/health")).json()
    except (httpx.HTTPError, ValueError):
        return False
    part = health["services"][service]
    return bool(part["status"] == "up" and part["database"] == "up")


async def _webhook_open(stack: Stack, base: str) -> bool:
    async with httpx.AsyncClient(base_url=base, timeout=5.0) as http:
        answer = await http.get(
            "/v1/admin/analytics/connect-info",
            headers={"Authorization": f"Bearer {stack.admin_key}"},
        )
    return answer.is_success and answer.json()["webhookSecretConfigured"] is False
