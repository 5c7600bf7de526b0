"""A run of benchmarks that receives SIGTERM stops the processes it started."""

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


def test_a_benchmark_cleans_up_and_exits_with_143_on_sigterm() -> None:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert (process.returncode, process.stdout) == (143, "stopped\n"), process.stderr
