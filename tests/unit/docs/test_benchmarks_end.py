"""A run of benchmarks that is told to end stops what it started."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, os, signal
from benchmarks.ending import run_to_end

async def measure():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
    finally:
        print("stopped")

run_to_end(measure())
"""


def test_sigterm_stops_what_was_started() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (143, "stopped\n"), ended.stderr
