"""The `hogsend` command."""

from __future__ import annotations

import sys

from cyclopts import App

from cli import environment
from cli.console import complain
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
# By name, so that a command imports only what it needs.
app.command("cli.commands.up:up", help="Start everything on this machine.")
app.command("cli.commands.demo:demo", help="Watch the whole loop on this machine.")
app.command("cli.commands.serve:serve", help="Run one service in the foreground.")
app.command("cli.commands.connect:connect", help="Connect a PostHog project over OAuth.")
app.command("cli.commands.doctor:doctor", help="Examine a server and its PostHog side.")
app.command("cli.commands.status:status", help="Show the health of a running stack.")
app.command("cli.commands.dlq:app", name="dlq", help="Look at dead letters, replay or purge them.")
app.command("cli.commands.streams:app", name="streams", help="Back up and restore JetStream.")
app.command("cli.commands.sandbox:sandbox", help="Run a PostHog stand-in on this machine.")


def main() -> None:
    """Run a command; exits with 0, 1 when it failed, 2 when it was called wrongly."""
    environment.load_file()
    try:
        code = app()
    except CommandError as error:
        complain(str(error), error.fix)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
