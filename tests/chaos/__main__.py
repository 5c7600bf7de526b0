"""`python -m tests.chaos [--seconds N] [--seed N]`: inject faults into a stack."""

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
from tests.chaos.order import check_order
from tests.chaos.run import Report, chaos
from tests.running_stack import ROOT, up


def main() -> int:
    """Run, print the report, and return 1 if a guarantee was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="duration of the run")
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(10**6),
        help="random seed of a run, to repeat it",
    )
    parser.add_argument("--outages", action="store_true", help="add each long outage once")
    parser.add_argument(
        "--cluster", action="store_true", help="three NATS servers, two replicas of each service"
    )
    parser.add_argument(
        "--beside",
        dest="other_checkout",
        type=Path,
        default=ROOT,
        help="with --cluster: checkout of the version that the second replicas run",
    )
    parser.add_argument(
        "--order", type=int, default=0, help="test only the order, with so many replicas of ingest"
    )
    parser.add_argument("--rate", type=float, default=40, help="events sent a second")
    options = parser.parse_args()
    print(f"random seed {options.seed}; repeat it with --seed {options.seed}")
    directory = Path(tempfile.mkdtemp(prefix="hogsend-chaos-"))
    report = asyncio.run(_run(options, directory))
    print("\n".join(["", *report.lines()]))
    if report.violations():
        print(f"logs      {directory}/home/logs")
        return 1
    shutil.rmtree(directory)
    return 0


async def _run(options: argparse.Namespace, directory: Path) -> Report | OrderReport:
    def log(line: str) -> None:
        print(line, file=sys.stderr)

    if options.order:
        return await check_order(
            seed=options.seed,
            seconds=options.seconds,
            per_second=options.rate,
            replicas=options.order,
        )
    run: dict[str, Any] = {
        "seed": options.seed,
        "seconds": options.seconds,
        "per_second": options.rate,
        "log": log,
    }
    if options.cluster:
        return await chaos(
            cluster(directory, options.other_checkout), faults=cluster_faults(), **run
        )
    once = OUTAGES if options.outages else ()
    return await chaos(up(directory / "home", directory), faults=FAULTS, once=once, **run)


if __name__ == "__main__":
    sys.exit(main())
