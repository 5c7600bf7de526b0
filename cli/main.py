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
from cli.console import out, reset_output
from cli.exit_codes import table
from cli.failures import run_guarded


class Command(msgspec.Struct, frozen=True):
    """The import path of a command, and its line in `hogsend --help`."""

    path: str
    summary: str


COMMANDS = {
    "up": Command("cli.commands.up:up", "Run the whole stack on this machine."),
    "demo": Command("cli.commands.demo:demo", "Run a stack and the sandbox, and follow an event."),
    "serve": Command("cli.commands.serve:serve", "Run one service in the foreground."),
    "connect": Command("cli.commands.connect:connect", "Connect a PostHog project over OAuth."),
    "disconnect": Command(
        "cli.commands.disconnect:disconnect", "Delete the credential of the PostHog project."
    ),
    "doctor": Command(
        "cli.commands.doctor:doctor", "Check a server and its connection to PostHog."
    ),
    "status": Command("cli.commands.status:status", "Show the health of a server."),
    "events": Command("cli.commands.events:app", "List, show, send, follow and replay events."),
    "backfill": Command(
        "cli.commands.backfill:app", "Import past events from PostHog; show and cancel backfills."
    ),
    "contacts": Command(
        "cli.commands.contacts:app",
        "List and show contacts, undo a merge, export and erase a person.",
    ),
    "destinations": Command(
        "cli.commands.destinations:app",
        "List, show, pause, resume, test and delete destinations.",
    ),
    "dlq": Command(
        "cli.commands.dlq:app",
        "List, show, replay and purge dead letters, which are messages that failed.",
    ),
    "audit": Command("cli.commands.audit:audit", "List the audit trail of requests."),
    "consumers": Command(
        "cli.commands.consumers:app", "List and delete JetStream consumers of subscribers."
    ),
    "backup": Command(
        "cli.commands.backup:backup", "Back up streams, PostgreSQL, settings and secrets."
    ),
    "restore": Command("cli.commands.backup:restore", "Restore a backup into a new stack."),
    "streams": Command(
        "cli.commands.streams:app", "Back up only the JetStream streams, and restore them."
    ),
    "spool": Command(
        "cli.commands.spool:app", "Read damaged files that a gateway's spool has set aside."
    ),
    "compose": Command(
        "cli.commands.compose:app",
        "Check, change, upgrade, back up and restore a deployment with Compose.",
    ),
    "sandbox": Command("cli.commands.sandbox:sandbox", "Run the sandbox, a stand-in for PostHog."),
    "completion": Command(
        "cli.commands.completion:completion", "Print a completion script for a shell."
    ),
}


def _version() -> str:
    # Imported only when needed: importing the library takes as long as everything else here.
    from hogsend import __version__  # noqa: PLC0415

    return __version__


def application(*documented: str) -> App:
    """Build the command line.

    Args:
        documented: commands to import for their docstrings. The others show their line of
            `COMMANDS`, without an import, which keeps the start fast.
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
    """Run a command, print its error if it fails, and return the exit code (`cli.exit_codes`)."""
    reset_output()
    # The library's log is for services; a command prints its own errors.
    logging.getLogger("hogsend").addHandler(logging.NullHandler())

    def command() -> object:
        environment.load_file()
        return application(*(name for name in tokens[:1] if name in COMMANDS))(tokens)

    return run_guarded(command, tokens)


def open_missing_streams() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that this process was started without.

    Otherwise the next file that is opened would get its descriptor, and the output with it.
    Writing to this stdout fails, as it does for any program whose stdout is closed, so that a
    command whose result is lost does not succeed. A lost line on stderr is no failure.
    """
    for descriptor, name, mode, flags in (
        (0, "stdin", "r", os.O_RDONLY),
        (1, "stdout", "w", os.O_RDONLY),
        (2, "stderr", "w", os.O_RDWR),
    ):
        if getattr(sys, name) is None:
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, flags)  # gets the lowest free descriptor
                # Programs that this process starts or becomes need it as well.
                os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def escape_unencodable_output() -> None:
    """Escape characters that the terminal's encoding lacks, as Python does on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command that this process was started for."""
    open_missing_streams()
    escape_unencodable_output()
    code = run(sys.argv[1:])
    if "granian" in sys.modules:
        # The sandbox served HTTP, and granian's threads would keep the process alive.
        from hogsend.service.process_end import end_process  # noqa: PLC0415

        end_process(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
