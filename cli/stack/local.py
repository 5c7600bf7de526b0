"""Runs the whole stack on this machine: starts it, keeps it running, and stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

from rich.text import Text

from cli.console import err
from cli.local_http import local_http
from cli.stack.data_directory import DataDirectory
from cli.stack.ports import require_free
from cli.stack.settings import StackSettings
from cli.stack.stack import Stack
from cli.stack.startup import start_nats, start_postgres, start_services
from cli.stack.supervisor import Program, Supervisor
from cli.summary import Summary
from hogsend.contract.users import User
from services.gateway.settings import GatewaySettings

OnReady = Callable[[Stack, Summary], Awaitable[bool]]
"""Called once everything is ready. True keeps the stack running until Ctrl-C or SIGTERM."""


def require_ports(gateway: GatewaySettings, settings: StackSettings) -> None:
    """Check that the ports are free, before anything is started.

    Raises:
        CommandError: a port is in use.
    """
    require_free(gateway.gateway_host, gateway.gateway_port, "GATEWAY_PORT", "the gateway")
    if not os.environ.get("NATS_URL"):
        require_free("127.0.0.1", settings.nats_port, "NATS_PORT", "NATS")


async def run(
    home: DataDirectory,
    gateway: GatewaySettings,
    settings: StackSettings,
    on_ready: OnReady,
    *,
    extra_programs: Sequence[Program] = (),
    directory: Path | None = None,
) -> bool:
    """Start everything and call `on_ready`; then stop everything, or at Ctrl-C or SIGTERM.

    Returns whether `on_ready` returned before a signal stopped everything.

    Args:
        home: the data directory.
        gateway: settings of the gateway, with its address.
        settings: settings of the stack, with the port of NATS.
        on_ready: called once everything is ready.
        extra_programs: programs to start before the servers and services.
        directory: working directory of the services; the current one by default.

    Raises:
        CommandError: a program does not start.
    """

    def report(name: str, event: str) -> None:
        time = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005
        err.print(Text.assemble((time, "dim"), " ", (name, "bold"), f" {event}"))

    supervisor = Supervisor(home.logs, report)
    stack = Stack(home, gateway, settings, supervisor, extra_programs, directory or Path.cwd())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    session = asyncio.create_task(_run_session(stack, on_ready))
    try:
        await asyncio.wait({session, stopped}, return_when=asyncio.FIRST_COMPLETED)
        is_complete = session.done()
        if is_complete and session.result():
            await stopped
    finally:
        session.cancel()
        stopped.cancel()
        await asyncio.gather(session, stopped, return_exceptions=True)
        with err.status("stopping"):
            await supervisor.stop()
    return is_complete


EXTERNAL = {"NATS": "NATS_URL", "PostgreSQL": "DATABASE_URL"}
"""Settings that name an external server, which is then not started here."""


async def _run_session(stack: Stack, on_ready: OnReady) -> bool:
    return await on_ready(stack, await _start(stack))


async def _start(stack: Stack) -> Summary:
    steps = {"NATS": start_nats, "PostgreSQL": start_postgres, "services": start_services}
    for program in stack.extra_programs:
        await stack.supervisor.start(program)
    with err.status("starting") as progress:
        for name, step in steps.items():
            is_external = os.environ.get(EXTERNAL.get(name, ""))
            action = f"connecting to {name}" if is_external else f"starting {name}"
            progress.update(action)
            if not err.is_terminal:
                err.print(action)
            await step(stack)
    return await summarize(stack)


async def summarize(stack: Stack) -> Summary:
    """Return the addresses and files of a running stack, and its current problems."""
    is_key_generated = not os.environ.get("ADMIN_API_KEY")
    is_nats_embedded = not os.environ.get("NATS_URL")
    unreadable, missing = await _webhook_secret_problems(stack)
    return Summary(
        gateway=stack.base_url,
        docs=f"{stack.base_url}/docs",
        nats=stack.nats,
        database=stack.database,
        admin_key_file=str(stack.home.secret_file("admin-api-key")) if is_key_generated else None,
        subscriber_env_file=str(stack.env_file(User.SUBSCRIBER)) if is_nats_embedded else None,
        app_env_file=str(stack.env_file(User.APP)) if is_nats_embedded else None,
        member_env_file=str(stack.env_file(User.MEMBER)) if is_nats_embedded else None,
        logs=str(stack.home.logs),
        webhook_open=not (unreadable or missing) and await _is_webhook_open(stack),
        webhook_closed=missing,
        webhook_secret_set=bool(os.environ.get("POSTHOG_WEBHOOK_SECRET")),
        credential_unreadable=unreadable,
        console=await _console(stack),
    )


async def _console(stack: Stack) -> str | None:
    async with local_http(stack.base_url) as http:
        response = await http.get("/console")
    return f"{stack.base_url}/console" if response.is_success else None


async def _is_webhook_open(stack: Stack) -> bool:
    async with local_http(stack.base_url, key=stack.admin_key) as http:
        response = await http.get("/v1/admin/analytics/connect-info")
    return response.is_success and response.json()["webhookSecretConfigured"] is False


async def _webhook_secret_problems(stack: Stack) -> tuple[bool, bool]:
    """Return whether stored secrets are unreadable, and whether the webhook secret is missing."""
    async with local_http(stack.base_url) as http:
        ready, health = await asyncio.gather(http.get("/readyz"), http.get("/v1/health"))
    secret = ready.json()["webhookSecret"]
    states = [credential["state"] for credential in health.json()["credentials"].values()]
    return "unreadable" in {secret, *states}, secret == "missing"  # noqa: S105 - only a state
