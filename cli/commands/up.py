"""`hogsend up`: run the whole stack on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from cli.console import err, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack import local, startup
from cli.stack.data_directory import DataDirectory
from cli.stack.ports import require_free
from cli.stack.readiness import is_listening, wait_until_ready
from cli.stack.settings import StackSettings, problems
from cli.stack.stack import Stack
from cli.stack.stand_in import PORT, EarlierCredential, StandIn
from cli.summary import Summary, keyed_command, show
from hogsend.service.settings.base import deprecations
from services.gateway.settings import GatewaySettings

Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]


def up(*, sandbox: Flag = False, sandbox_port: Port = PORT, json: Flag = False) -> int:
    """Start everything on this machine and keep it running until Ctrl-C.

    Starts NATS and PostgreSQL unless NATS_URL and DATABASE_URL are set, then the services. Data,
    generated secrets and logs are kept in HOGSEND_HOME (./.hogsend).

    With --sandbox, a stand-in for PostHog runs beside it, and the stack is set up for that one, so
    that `hogsend connect posthog` works at once. It replaces POSTHOG_HOST, POSTHOG_API_KEY and
    API_PUBLIC_URL for this run; see docs/sandbox.md.

    Parameters
    ----------
    sandbox
        Run a stand-in for PostHog too, and use it.
    sandbox_port
        Port of the stand-in.
    json
        Print one JSON document when everything is ready, and nothing else on stdout.
    """
    if wrong := problems():
        raise CommandError(
            "\n       ".join(wrong),
            "see .env.example for every setting",
            exit_code=ExitCode.USAGE,
        )
    gateway, settings = GatewaySettings(), StackSettings()
    for deprecation in deprecations():
        err.print(f"[yellow]warning:[/] {deprecation}", soft_wrap=True)
    home = DataDirectory(settings.hogsend_home)
    with home.locked():
        local.require_ports(gateway, settings)
        stand_in = None
        if sandbox:
            require_free("127.0.0.1", sandbox_port, "--sandbox-port", "the sandbox")
            stand_in = StandIn(
                sandbox_port, gateway.gateway_port, gateway_host=gateway.gateway_host
            )
            stand_in.use()

        async def on_ready(stack: Stack, summary: Summary) -> bool:
            if stand_in is not None:
                await wait_until_ready(
                    stack.supervisor, "sandbox", lambda: is_listening(sandbox_port)
                )
            if await EarlierCredential(stack).forget(sandbox=sandbox):
                summary = await local.summarize(stack)
            if stand_in is not None:
                summary = msgspec.structs.replace(summary, posthog=stand_in.options.url)
            if json:
                print_json(summary)
            else:
                show(summary, _tour(summary, stand_in) if stand_in else None)
            return True

        beside = [stand_in.program(startup.PYTHONPATH, home.path)] if stand_in else []
        # Settings of `.env` are in the environment by now: a service that read the file too would
        # find those for another PostHog.
        directory = home.path if stand_in else None
        asyncio.run(
            local.run(home, gateway, settings, on_ready, beside=beside, directory=directory)
        )
    err.print("[dim]stopped; data is kept in[/] " + str(home.path))
    return 0


def _tour(summary: Summary, stand_in: StandIn) -> dict[str, str]:
    """What to do next, in another terminal, with the command for it."""
    command, server = keyed_command(summary), f"--url {summary.gateway}"
    return {
        "In another terminal, connect it:": f"{command} connect posthog {server}",
        "Then capture an event in it, which it delivers here:": stand_in.curl(
            "signed_up", "u_42", "ada@example.com"
        ),
        "And see it arrive:": f"{command} events list {server}",
    }
