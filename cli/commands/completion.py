"""`hogsend completion`: complete commands and options in a shell."""

from __future__ import annotations

import sys
from typing import Literal

from cli import main


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script with which a shell completes commands and options.

    For bash: `hogsend completion bash > ~/.hogsend-completion`, and `source ~/.hogsend-completion`
    in `~/.bashrc`.

    Parameters
    ----------
    shell
        The shell it is for.
    """
    # Not through rich: it would wrap lines, and take brackets for markup.
    app = main.application(*main.COMMANDS)
    sys.stdout.write(app.generate_completion(prog_name="hogsend", shell=shell))
