"""`hogsend up`: run the whole stack on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from cli.bus_address import discard_stack_url
from cli.console import err, print_hanging, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack import local, startup
from cli.stack.data_directory import DataDirectory
from cli.stack.local_sandbox import PORT, LocalSandbox, SandboxCredential
from cli.stack.ports import require_free
from cli.stack.readiness import is_listening, wait_until_ready
from cli.stack.settings import StackSettings, problems
from cli.stack.stack import Stack
from cli.summary import Summary, command_with_admin_key, show
from hogsend.service.settings.base import deprecations
from services.gateway.settings import GatewaySettings

Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]


def up(*, sandbox: Flag = False, sandbox_port: Port = PORT, json: Flag = False) -> int:
    """Run the whole stack on this machine until Ctrl-C.

    Starts NATS unless NATS_URL names another server, PostgreSQL unless DATABASE_URL is set, then
    all services.
    Data, generated secrets and logs are kept in HOGSEND_HOME (default: ./.hogsend).

    With --sandbox, the sandbox, a stand-in for PostHog, runs with the stack, and
    `hogsend connect posthog` connects to it. Its POSTHOG_HOST, POSTHOG_API_KEY and API_PUBLIC_URL
    replace yours for this run; see docs/sandbox.md.

    Parameters
    ----------
    sandbox
        Run the sandbox too, and use it as PostHog.
    sandbox_port
        Port of the sandbox.
    json
        Print one JSON document on stdout once everything is ready, and nothing else.
    """
    discard_stack_url()
    if invalid := problems():
        raise CommandError(
            "\n".join(invalid),
            "correct it in .env or the environment; .env.example lists every setting",
            exit_code=ExitCode.USAGE,
        )
    gateway, settings = GatewaySettings(), StackSettings()
    for deprecation in deprecations():
        print_hanging(err, ("warning: ", "yellow"), deprecation)
    home = DataDirectory(settings.hogsend_home)
    with home.locked():
        local.require_ports(gateway, settings)
        local_sandbox = None
        if sandbox:
            require_free("127.0.0.1", sandbox_port, "--sandbox-port", "the sandbox")
            local_sandbox = LocalSandbox(
                sandbox_port, gateway.gateway_port, gateway_host=gateway.gateway_host
            )
            local_sandbox.use()

        async def on_ready(stack: Stack, summary: Summary) -> bool:
            if local_sandbox is not None:
                await wait_until_ready(
                    stack.supervisor, "sandbox", lambda: is_listening(sandbox_port)
                )
            if await SandboxCredential(stack).forget(sandbox=sandbox):
                summary = await local.summarize(stack)
            if local_sandbox is not None:
                summary = msgspec.structs.replace(summary, posthog=local_sandbox.options.url)
            if json:
                print_json(summary)
            else:
                show(summary, _next_steps(summary, local_sandbox) if local_sandbox else None)
            return True

        extra_programs = []
        directory = None
        if local_sandbox is not None:
            extra_programs = [local_sandbox.program(startup.PYTHONPATH, home.path)]
            # The services run in the data directory, since each reads `.env` of its working
            # directory: here that file may have the settings for another PostHog.
            directory = home.path
        asyncio.run(
            local.run(
                home,
                gateway,
                settings,
                on_ready,
                extra_programs=extra_programs,
                directory=directory,
            )
        )
    err.print(Text.assemble(("stopped; data is kept in ", "dim"), str(home.path)), soft_wrap=True)
    return 0


def _next_steps(summary: Summary, local_sandbox: LocalSandbox) -> dict[str, str]:
    """Shell commands to try in another terminal, by their purpose."""
    command, server = command_with_admin_key(summary), f"--url {summary.gateway}"
    return {
        "In another terminal, connect the sandbox:": f"{command} connect posthog {server}",
        "Capture an event in the sandbox, which delivers it to Hogsend:": local_sandbox.curl(
            "signed_up", "u_42", "ada@example.com"
        ),
        "List the events that arrived:": f"{command} events list {server}",
    }
