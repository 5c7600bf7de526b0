"""`python -m tests.chaos [--seconds N] [--seed N]`: hurt a stack, print what came of it."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.cluster import cluster
from tests.chaos.faults import FAULTS, OUTAGES, cluster_faults
from tests.chaos.order import Report as OrderReport
from tests.chaos.order import keep_order
from tests.chaos.run import Report, chaos
from tests.running_stack import ROOT, up


def main() -> int:
    """Run; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="how long to go on")
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(10**6),
        help="random seed of a run, to repeat it",
    )
    parser.add_argument("--outages", action="store_true", help="long ones too, once each")
    parser.add_argument("--cluster", action="store_true", help="three NATS, two of each service")
    parser.add_argument(
        "--beside", type=Path, default=ROOT, help="with --cluster: another version's checkout"
    )
    parser.add_argument("--order", type=int, default=0, help="only so many replicas of ingest")
    parser.add_argument("--rate", type=float, default=40, help="events sent each second")
    chosen = parser.parse_args()
    print(f"random seed {chosen.seed}; repeat it with --seed {chosen.seed}")
    directory = Path(tempfile.mkdtemp(prefix="hogsend-chaos-"))
    report = asyncio.run(_run(chosen, directory))
    print("\n".join(["", *report.lines()]))
    if report.complaints():
        print(f"logs      {directory}/home/logs")
        return 1
    shutil.rmtree(directory)
    return 0


async def _run(chosen: argparse.Namespace, directory: Path) -> Report | OrderReport:
    def say(line: str) -> None:
        print(line, file=sys.stderr)

    if chosen.order:
        return await keep_order(
            seed=chosen.seed,
            seconds=chosen.seconds,
            per_second=chosen.rate,
            replicas=chosen.order,
        )
    how: dict[str, Any] = {
        "seed": chosen.seed,
        "seconds": chosen.seconds,
        "per_second": chosen.rate,
        "say": say,
    }
    if chosen.cluster:
        return await chaos(cluster(directory, chosen.beside), faults=cluster_faults(), **how)
    once = OUTAGES if chosen.outages else ()
    return await chaos(up(directory / "home", directory), faults=FAULTS, once=once, **how)


if __name__ == "__main__":
    sys.exit(main())
