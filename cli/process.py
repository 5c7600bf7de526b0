"""Entry point of the `hogsend` command."""

from __future__ import annotations

import sys

from cli.exit_codes import ExitCode


def main() -> None:
    """Run the command. Ctrl-C during the imports ends it without a traceback."""
    try:
        from cli import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    command.main()
