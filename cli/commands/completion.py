"""`hogsend completion`: complete commands and options in a shell."""

from __future__ import annotations

import sys
from typing import Literal

from cli import main


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script with which a shell completes commands and options.

    For bash: `hogsend completion bash > ~/.hogsend-completion`, and `source ~/.hogsend-completion`
    in `~/.bashrc`. For zsh, save it as `_hogsend` in a directory of `$fpath`; for fish, as
    `~/.config/fish/completions/hogsend.fish`.

    Parameters
    ----------
    shell
        The shell it is for.
    """
    app = main.application(*main.COMMANDS)
    # For bash and fish a word that is a command anywhere, as in `backfill posthog`, is one
    # everywhere: after `connect posthog` they would complete nothing.
    app["connect"].command(main.COMMANDS["connect"].path, name="posthog")
    # Not through rich: it would wrap lines, and take brackets for markup.
    sys.stdout.write(app.generate_completion(prog_name="hogsend", shell=shell))
