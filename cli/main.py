"""The `hogsend` command."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence

import msgspec
from cyclopts import App

from cli import environment
from cli.console import forget_output, out
from cli.exit_codes import table
from cli.failures import guarded


class Command(msgspec.Struct, frozen=True):
    """Where a command is, and its line in the list of commands."""

    path: str
    summary: str


COMMANDS = {
    "up": Command("cli.commands.up:up", "Run the whole stack on this machine."),
    "demo": Command(
        "cli.commands.demo:demo", "Connect to a stand-in for PostHog and follow an event."
    ),
    "serve": Command("cli.commands.serve:serve", "Run one service in the foreground."),
    "connect": Command("cli.commands.connect:connect", "Connect a PostHog project over OAuth."),
    "disconnect": Command(
        "cli.commands.disconnect:disconnect", "Delete the credential of a connected project."
    ),
    "doctor": Command("cli.commands.doctor:doctor", "Examine a server and its PostHog side."),
    "status": Command("cli.commands.status:status", "Show the health of a running stack."),
    "events": Command("cli.commands.events:app", "List, show, send, follow and replay events."),
    "backfill": Command("cli.commands.backfill:app", "Bring events from before the connection."),
    "contacts": Command(
        "cli.commands.contacts:app",
        "List and show contacts, undo a merge, export and erase a person.",
    ),
    "destinations": Command(
        "cli.commands.destinations:app", "Look at, pause, test and delete destinations."
    ),
    "dlq": Command(
        "cli.commands.dlq:app", "Look at messages that could not be processed, and replay them."
    ),
    "audit": Command("cli.commands.audit:audit", "List what administrators changed."),
    "consumers": Command(
        "cli.commands.consumers:app", "Look at and delete the consumers of events and changes."
    ),
    "backup": Command(
        "cli.commands.backup:backup", "Back up streams, PostgreSQL, settings and secrets."
    ),
    "restore": Command(
        "cli.commands.backup:restore", "Restore a backup where there is no stack yet."
    ),
    "streams": Command(
        "cli.commands.streams:app", "Back up JetStream's streams to files, and restore them."
    ),
    "spool": Command(
        "cli.commands.spool:app", "Look into files that a gateway's spool has set aside."
    ),
    "compose": Command(
        "cli.commands.compose:app", "Check, change and upgrade a deployment with Compose."
    ),
    "sandbox": Command(
        "cli.commands.sandbox:sandbox", "Run a stand-in for PostHog on this machine."
    ),
    "completion": Command(
        "cli.commands.completion:completion", "Complete commands and options in a shell."
    ),
}


def _version() -> str:
    # Only when asked for: importing the library takes as long as all else here.
    from hogsend import __version__  # noqa: PLC0415

    return __version__


def application(*documented: str) -> App:
    """Build the command line.

    Args:
        documented: commands that show their docstrings. Only these are imported to do so; the
            others have their line in the list of commands.
    """
    app = App(
        name="hogsend",
        help="PostHog's events as durable, deduplicated events on NATS.",
        help_epilogue=None if documented else table(),
        help_format="markdown",
        version=_version,
        console=out,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, command in COMMANDS.items():
        if name in documented:
            app.command(command.path, name=name)
        else:
            app.command(command.path, name=name, help=command.summary)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run a command, print whatever goes wrong, and return the exit code (`cli.exit_codes`)."""
    forget_output()
    # The library's log is for services; a command says itself what went wrong.
    logging.getLogger("hogsend").addHandler(logging.NullHandler())

    def command() -> object:
        environment.load_file()
        return application(*(name for name in tokens[:1] if name in COMMANDS))(tokens)

    return guarded(command, tokens)


def open_missing_streams() -> None:
    """Open what this process was started without of stdin, stdout and stderr: as `/dev/null`.

    Otherwise the next file that is opened would take its place, and get what is printed.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def escape_what_cannot_be_encoded() -> None:
    """Print what a terminal's encoding has no code for as its number, as Python does on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command that this process was started for."""
    open_missing_streams()
    escape_what_cannot_be_encoded()
    code = run(sys.argv[1:])
    if "granian" in sys.modules:
        # The stand-in for PostHog served HTTP; nothing else needs the library to end.
        from hogsend.service.process_end import end_process  # noqa: PLC0415

        end_process(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
