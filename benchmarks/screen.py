"""A screen that shows how far a run is, and nothing that its processes say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOG = Path(__file__).parents[1] / "dist" / "benchmarks.log"
STREAMS = (1, 2)
"""Descriptors of standard output and error, which every process that is started inherits."""


@contextmanager
def quiet(log: Path) -> Iterator[TextIO]:
    """Send what this process and its children write to a file; gives standard error as it was."""
    log.parent.mkdir(exist_ok=True)
    sys.stdout.flush()
    kept = {number: os.dup(number) for number in STREAMS}
    with log.open("w") as file, os.fdopen(os.dup(2), "w") as screen:
        screen.reconfigure(write_through=True)
        for number in STREAMS:
            os.dup2(file.fileno(), number)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in kept.items():
                os.dup2(descriptor, number)
                os.close(descriptor)
