"""`hogsend demo`: run the stack with a PostHog, connect them, and follow an event."""

from __future__ import annotations

import asyncio
import os
import sys

from cli.console import err, out, print_json
from cli.demo.posthog import DemoPostHog
from cli.demo.scenario import EVENT, Scenario
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack import local, startup
from cli.stack.data_directory import DataDirectory
from cli.stack.ports import free_or_any
from cli.stack.settings import ALL_SETTINGS, StackSettings, problems
from cli.stack.stack import Stack
from cli.stack.stand_in import PORT
from cli.summary import Summary, typed_command
from hogsend.service.settings.shared import TelemetrySettings
from services.gateway.settings import GatewaySettings


def demo(*, json: Flag = False) -> int:
    """Connect to a PostHog on this machine; watch an event arrive and a token being refreshed.

    Starts everything it needs, on free ports and with its own data in HOGSEND_HOME/demo; sends
    nothing to any other machine. On a terminal it then keeps running until Ctrl-C.

    Parameters
    ----------
    json
        Print one JSON document with the measurements, and exit.
    """
    if wrong := problems():
        raise CommandError(
            "\n       ".join(wrong),
            "see .env.example for every setting",
            exit_code=ExitCode.USAGE,
        )
    wanted, stack_settings = GatewaySettings(), StackSettings()
    posthog = _configure(wanted, stack_settings)
    gateway, stack_settings = GatewaySettings(), StackSettings()
    home = DataDirectory(stack_settings.hogsend_home)
    stays = sys.stdout.isatty() and not json

    async def on_ready(stack: Stack, summary: Summary) -> bool:
        if not json:
            out.print(
                "\n[bold]Hogsend, with a PostHog stand-in beside it.[/] "
                "Everything below happens on this machine."
            )
        measured = await Scenario(stack, posthog, quiet=json).run()
        if json:
            print_json(measured)
        else:
            _invite(summary, posthog, stays=stays)
        return stays

    async def run() -> None:
        try:
            await local.run(
                home,
                gateway,
                stack_settings,
                on_ready,
                beside=[posthog.program(startup.PYTHONPATH, home.path)],
                directory=home.path,
            )
        finally:
            await posthog.close()

    with home.locked():
        asyncio.run(run())
    err.print("[dim]stopped[/]")
    return 0


def _configure(wanted: GatewaySettings, stack_settings: StackSettings) -> DemoPostHog:
    """Replace the operator's settings by the demo's, so that it touches nothing of theirs."""
    gateway_port = free_or_any(wanted.gateway_port)
    nats_port = free_or_any(stack_settings.nats_port)
    posthog = DemoPostHog(free_or_any(PORT), gateway_port)
    theirs = {
        name
        for group in ALL_SETTINGS
        if group is not TelemetrySettings
        for name in group.environment_names()
    }
    # In whatever case: a service refuses names that are not in capitals.
    for name in [name for name in os.environ if name.upper() in theirs]:
        del os.environ[name]
    os.environ.update(
        posthog.settings,
        HOGSEND_HOME=str((stack_settings.hogsend_home / "demo").absolute()),
        GATEWAY_PORT=str(gateway_port),
        NATS_PORT=str(nats_port),
    )
    return posthog


def _invite(summary: Summary, posthog: DemoPostHog, *, stays: bool) -> None:
    if not stays:
        out.print(
            "\n[bold green]That was the whole loop.[/] On a terminal it would keep running now."
        )
        return
    lines = {
        "capture": posthog.curl(EVENT, "u_43"),
        "subscribe": f"set -a; . {summary.subscriber_env_file}; set +a; "
        f"{sys.executable} {startup.ROOT / 'docs/examples/subscriber.py'}",
        "report": f"set -a; . {summary.app_env_file}; set +a; "
        f"{sys.executable} {startup.ROOT / 'docs/examples/app.py'}",
        "events": f"printf 'Authorization: Bearer %s' \"$(cat {summary.admin_key_file})\" | "
        f"curl -H @- {summary.gateway}/v1/admin/events",
        "diagnose": f'HOGSEND_ADMIN_KEY="$(cat {summary.admin_key_file})" '
        f"{typed_command()} doctor --url {summary.gateway}",
        "PostHog": f"{posthog.options.url}/_sandbox/state",
        "logs": summary.logs,
    }
    out.print("\n[bold green]That was the whole loop, and it keeps running.[/] Try:\n")
    for name, line in lines.items():
        out.print(f"  [bold]{name:<11}[/]", end="")
        out.print(line, soft_wrap=True, markup=False)
    out.print("\nCtrl-C stops everything.")
