"""Runs everything and prints a table, then the same as JSON: `python -m benchmarks`.

With the names of parts, for example `python -m benchmarks bearers persons`, only those. `--report`
writes `docs/benchmarks.md` instead of printing, `--readme` the README's table.

What the services and servers say, and what is logged here, goes to a file: the screen shows how far
the run is.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import psutil

from benchmarks import (
    bearers,
    capturing,
    cost,
    crowd,
    ingest,
    latency,
    persons,
    propagation,
    report,
    stack,
    syncing,
    webhooks,
    workers,
)
from benchmarks.ending import run_to_end
from benchmarks.figures import Figure
from benchmarks.report import machine
from benchmarks.screen import LOG, quiet
from hogsend.contract.users import User
from hogsend.service import garbage_collection
from hogsend.transport.connection import Connection
from tests.servers import Servers, running_servers

README = Path(__file__).parents[1] / "README.md"
Part = Callable[[], Awaitable[list[Figure]]]
Progress = Callable[[str], object]

ON_BUS: Mapping[str, Callable[[Servers, Connection], Awaitable[list[Figure]]]] = {
    "webhooks": webhooks.measure,
    "workers": workers.measure,
    "ingest": ingest.measure,
    "cost": cost.measure,
    "latency": latency.measure,
}
ON_SERVERS: Mapping[str, Callable[[Servers], Awaitable[list[Figure]]]] = {
    "propagation": propagation.measure,
    "bearers": bearers.measure,
    "persons": persons.measure,
    "capturing": capturing.measure,
    "crowd": crowd.measure,
}
ALONE: Mapping[str, Part] = {"syncing": syncing.measure, "stack": stack.measure}
"""They start servers of their own, and measure best where no others run."""
PARTS = (*ON_BUS, *ON_SERVERS, *ALONE)
FLAGS = ("--report", "--readme")
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


async def measure(progress: Progress, wanted: Sequence[str] = ()) -> list[report.Part]:
    """Measure what is wanted, or everything, one after the other, on servers of this run's own."""
    async with running_servers() as servers:
        operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await operator.open()
        on_bus = {name: partial(part, servers, operator) for name, part in ON_BUS.items()}
        on_servers = {name: partial(part, servers) for name, part in ON_SERVERS.items()}
        found = await _run({**on_bus, **on_servers}, wanted, progress)
        await operator.close()
    return found + await _run(ALONE, wanted, progress)


async def _run(
    parts: Mapping[str, Part], wanted: Sequence[str], progress: Progress
) -> list[report.Part]:
    found = []
    for name, part in parts.items():
        if wanted and name not in wanted:
            continue
        progress(f"{name} ... ")
        begun = time.perf_counter()
        figures = await part()
        seconds = time.perf_counter() - begun
        progress(f"{seconds:.0f} s\n")
        found.append(report.Part(name, figures, seconds))
    return found


def table(figures: Sequence[Figure]) -> str:
    """Write the figures as a Markdown table."""
    lines = ["| figure | value | goal |", "|---|---|---|"]
    lines += [f"| {figure.name} | {figure.value} | {figure.goal} |" for figure in figures]
    machine = f"{psutil.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}."])


def main() -> int:
    """Run, print, and with `--readme` put the table into the README."""
    if shutil.which("wrk") is None:
        print("error: the benchmarks need wrk\n  fix: apt-get install wrk", file=sys.stderr)
        return 1
    names = [name for name in sys.argv[1:] if not name.startswith("-")]
    if unknown := [word for word in sys.argv[1:] if word not in {*PARTS, *FLAGS}]:
        fix = f"give any of {', '.join(PARTS)}, or none for all of them, with {' or '.join(FLAGS)}"
        print(f"error: {' '.join(unknown)} is not known\n  fix: {fix}", file=sys.stderr)
        return 2
    measured_on = machine()
    # As the services do, some of which run in this process.
    garbage_collection.configure()
    with quiet(LOG) as screen:
        try:
            parts = run_to_end(measure(screen.write, names))
        except Exception:  # noqa: BLE001 - whatever it was, the screen says where to look
            screen.write(f"failed; see {LOG}\n")
            traceback.print_exc()
            return 1
    figures = [figure for part in parts for figure in part.figures]
    if "--report" in sys.argv:
        report.write(parts, measured_on)
    else:
        print(table(figures))
        print(msgspec.json.encode(figures).decode())
    if "--readme" in sys.argv:
        text = README.read_text()
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(f"{head}{BEGIN}\n{table(figures)}\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
