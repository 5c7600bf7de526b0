"""Redirects the output of a run to a file, so that the screen shows only its progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOG = Path(__file__).parents[1] / "dist" / "benchmarks.log"
STREAMS = (1, 2)
"""File descriptors of standard output and error, which child processes inherit."""


@contextmanager
def quiet(log: Path) -> Iterator[TextIO]:
    """Redirect the output of this process and its children to a file during the block.

    Yields the original standard error.
    """
    log.parent.mkdir(exist_ok=True)
    sys.stdout.flush()
    saved = {number: os.dup(number) for number in STREAMS}
    with log.open("w") as file, os.fdopen(os.dup(2), "w") as screen:
        screen.reconfigure(write_through=True)
        for number in STREAMS:
            os.dup2(file.fileno(), number)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in saved.items():
                os.dup2(descriptor, number)
                os.close(descriptor)
