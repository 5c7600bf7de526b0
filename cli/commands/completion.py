"""`hogsend completion`: print a completion script for a shell."""

from __future__ import annotations

import sys
from typing import Literal

from cli import main


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that completes commands and options in a shell.

    For bash, save it with `hogsend completion bash > ~/.hogsend-completion`, and add
    `source ~/.hogsend-completion` to `~/.bashrc`. For zsh, save it as `_hogsend` in a directory of
    `$fpath`. For fish, save it as `~/.config/fish/completions/hogsend.fish`.

    Parameters
    ----------
    shell
        The shell to complete in.
    """
    app = main.application(*main.COMMANDS)
    # The scripts for bash and fish treat every word that is a command somewhere, like `posthog` in
    # `backfill posthog`, as a command everywhere. Without this they would complete nothing after
    # `connect posthog`.
    app["connect"].command(main.COMMANDS["connect"].path, name="posthog")
    # Not through rich, which wraps lines and reads brackets as markup.
    sys.stdout.write(app.generate_completion(prog_name="hogsend", shell=shell))
