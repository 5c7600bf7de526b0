"""The process of the `hogsend` command, from its first moment on."""

from __future__ import annotations

import sys

from cli.exit_codes import ExitCode


def main() -> None:
    """Run the command; Ctrl-C while it is still being loaded ends it without a traceback."""
    try:
        from cli import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    command.main()
