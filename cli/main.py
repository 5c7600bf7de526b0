"""The `hogsend` command."""

from __future__ import annotations

import sys

from cyclopts import App

from cli import environment
from cli.console import print_error
from cli.errors import CommandError


def _version() -> str:
    # Only when asked for: importing the library takes as long as all else here.
    from hogsend import __version__  # noqa: PLC0415

    return __version__


app = App(
    name="hogsend",
    help="PostHog's events as durable, deduplicated events on NATS.",
    version=_version,
    result_action="return_value",
)
# By name, so that each command imports only what it needs.
app.command("cli.commands.up:up", help="Run the whole stack on this machine.")
app.command("cli.commands.demo:demo", help="Connect to a stand-in for PostHog and follow an event.")
app.command("cli.commands.serve:serve", help="Run one service in the foreground.")
app.command("cli.commands.connect:connect", help="Connect a PostHog project over OAuth.")
app.command("cli.commands.doctor:doctor", help="Examine a server and its PostHog side.")
app.command("cli.commands.status:status", help="Show the health of a running stack.")
app.command("cli.commands.dlq:app", name="dlq", help="List, replay or purge dead letters.")
app.command("cli.commands.streams:app", name="streams", help="Back up and restore JetStream.")
app.command("cli.commands.sandbox:sandbox", help="Run a stand-in for PostHog on this machine.")


def main() -> None:
    """Run a command. Exit codes: 0, 1 if it failed, 2 if it was used wrongly."""
    environment.load_file()
    try:
        code = app()
    except CommandError as error:
        print_error(str(error), error.fix)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
