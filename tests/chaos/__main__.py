"""`python -m tests.chaos [--seconds N] [--seed N]`: hurt a stack, print what came of it."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import FAULTS, OUTAGES
from tests.chaos.run import chaos


def main() -> int:
    """Run; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="how long to go on")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeats a run")
    parser.add_argument("--outages", action="store_true", help="with outages of a minute as well")
    chosen = parser.parse_args()
    faults = (*FAULTS, *OUTAGES) if chosen.outages else FAULTS
    print(f"seed {chosen.seed}; repeat with: python -m tests.chaos --seed {chosen.seed}")
    directory = Path(tempfile.mkdtemp(prefix="hogsend-chaos-"))
    report = asyncio.run(
        chaos(
            directory,
            seed=chosen.seed,
            faults=faults,
            seconds=chosen.seconds,
            say=lambda line: print(line, file=sys.stderr),
        )
    )
    print("\n".join(["", *report.lines()]))
    if report.complaints():
        print(f"logs      {directory}/home/logs")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
