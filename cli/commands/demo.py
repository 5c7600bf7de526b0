"""`hogsend demo`: run a stack with the sandbox, connect them, and follow an event."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys

from rich.text import Text

from cli.console import err, out, print_hanging, print_json
from cli.demo.posthog import DemoPostHog
from cli.demo.scenario import EVENT, Scenario
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack import local, startup
from cli.stack.data_directory import DataDirectory
from cli.stack.local_sandbox import PORT
from cli.stack.ports import free_or_any
from cli.stack.settings import ALL_SETTINGS, StackSettings, problems
from cli.stack.stack import Stack
from cli.summary import Summary, command_with_admin_key, load_command
from hogsend.service.settings.shared import TelemetrySettings
from services.gateway.settings import GatewaySettings


def demo(*, json: Flag = False) -> int:
    """Run a stack with the sandbox, a stand-in for PostHog, and follow an event through both.

    Connects over OAuth, captures an event and shows it arrive, reports an event back, and waits for
    the access token to be refreshed. Uses free ports and its own data in HOGSEND_HOME/demo, and
    sends nothing to any other machine. On a terminal it then keeps running until Ctrl-C.

    Parameters
    ----------
    json
        Print one JSON document with the measurements, and exit.
    """
    if invalid := problems():
        raise CommandError(
            "\n".join(invalid),
            "correct it in .env or the environment; .env.example lists every setting",
            exit_code=ExitCode.USAGE,
        )
    posthog = _configure(GatewaySettings(), StackSettings())
    gateway, stack_settings = GatewaySettings(), StackSettings()
    home = DataDirectory(stack_settings.hogsend_home)
    keeps_running = sys.stdout.isatty() and not json

    async def on_ready(stack: Stack, summary: Summary) -> bool:
        if not json:
            print_hanging(
                out,
                ("\nHogsend, with the sandbox, a stand-in for PostHog. ", "bold"),
                "Everything below happens on this machine.",
                indent=0,
            )
        measurements = await Scenario(stack, posthog, quiet=json).run()
        if json:
            print_json(measurements)
        else:
            _show_next_steps(summary, posthog, keeps_running=keeps_running)
        return keeps_running

    async def run() -> bool:
        try:
            return await local.run(
                home,
                gateway,
                stack_settings,
                on_ready,
                extra_programs=[posthog.program(startup.PYTHONPATH, home.path)],
                directory=home.path,
            )
        finally:
            await posthog.close()

    with home.locked():
        is_complete = asyncio.run(run())
    if not is_complete:
        raise KeyboardInterrupt
    err.print("stopped", style="dim")
    return 0


def _configure(gateway: GatewaySettings, stack_settings: StackSettings) -> DemoPostHog:
    """Replace the operator's settings by the demo's, so that the demo changes no data of theirs."""
    gateway_port = free_or_any(gateway.gateway_port)
    nats_port = free_or_any(stack_settings.nats_port)
    posthog = DemoPostHog(free_or_any(PORT), gateway_port)
    operator_settings = {
        name
        for group in ALL_SETTINGS
        if group is not TelemetrySettings
        for name in group.environment_names()
    }
    # Case-insensitive, because services refuse to start with a setting in lower case.
    for name in [name for name in os.environ if name.upper() in operator_settings]:
        del os.environ[name]
    os.environ.update(
        posthog.settings,
        HOGSEND_HOME=str((stack_settings.hogsend_home / "demo").absolute()),
        GATEWAY_PORT=str(gateway_port),
        NATS_PORT=str(nats_port),
    )
    return posthog


def _show_next_steps(summary: Summary, posthog: DemoPostHog, *, keeps_running: bool) -> None:
    if not keeps_running:
        out.print("\nThat was the whole loop. On a terminal the demo keeps running.")
        return
    command, server = command_with_admin_key(summary), f"--url {summary.gateway}"
    lines = {
        "capture": posthog.curl(EVENT, "u_43"),
        "subscribe": _example(summary.subscriber_env_file, "subscriber.py"),
        "report": _example(summary.app_env_file, "app.py"),
        "events": f"{command} events list {server}",
        "diagnose": f"{command} doctor {server}",
        "PostHog": f"{posthog.options.url}/_sandbox/state",
        "logs": summary.logs,
    }
    title = ("That was the whole loop. The stack keeps running.", "bold green")
    out.print(Text.assemble("\n", title, " Try:\n"))
    for name, line in lines.items():
        out.print(Text.assemble((f"  {name:<11}", "bold"), line), soft_wrap=True)
    out.print("\nCtrl-C stops everything.")


def _example(env_file: str | None, name: str) -> str:
    """Return a shell command that runs an example of the documentation as a NATS user."""
    program = startup.ROOT / "docs" / "examples" / name
    run = shlex.join([sys.executable, str(program)])
    return f"{load_command(env_file)}; {run}" if env_file else run
