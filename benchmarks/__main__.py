"""Runs all benchmarks, and prints a table and the same as JSON: `python -m benchmarks`.

Names of parts select single benchmarks, for example `python -m benchmarks bearers persons`.
`--report` writes `docs/benchmarks.md` instead of printing, and `--readme` the README's table.

The output and logs of all processes go to a file. The screen shows the progress of the run.
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
"""Parts that start their own servers. They run last, when no other servers run."""
PARTS = (*ON_BUS, *ON_SERVERS, *ALONE)
FLAGS = ("--report", "--readme")
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


async def measure(progress: Progress, selected: Sequence[str] = ()) -> list[report.Part]:
    """Run the selected parts one after the other, or all of them, on newly started servers."""
    async with running_servers() as servers:
        operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await operator.open()
        on_bus = {name: partial(part, servers, operator) for name, part in ON_BUS.items()}
        on_servers = {name: partial(part, servers) for name, part in ON_SERVERS.items()}
        results = await _run({**on_bus, **on_servers}, selected, progress)
        await operator.close()
    return results + await _run(ALONE, selected, progress)


async def _run(
    parts: Mapping[str, Part], selected: Sequence[str], progress: Progress
) -> list[report.Part]:
    results = []
    for name, part in parts.items():
        if selected and name not in selected:
            continue
        progress(f"{name} ... ")
        started = time.perf_counter()
        figures = await part()
        seconds = time.perf_counter() - started
        progress(f"{seconds:.0f} s\n")
        results.append(report.Part(name, figures, seconds))
    return results


def table(figures: Sequence[Figure]) -> str:
    """Write the figures as a Markdown table."""
    lines = ["| figure | value | goal |", "|---|---|---|"]
    lines += [f"| {figure.name} | {figure.value} | {figure.goal} |" for figure in figures]
    machine = f"{psutil.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}."])


def main() -> int:
    """Run the benchmarks, and print or write the results."""
    if shutil.which("wrk") is None:
        print("error: the benchmarks need wrk\n  fix: apt-get install wrk", file=sys.stderr)
        return 1
    names = [name for name in sys.argv[1:] if not name.startswith("-")]
    if unknown := [word for word in sys.argv[1:] if word not in {*PARTS, *FLAGS}]:
        fix = f"give any of {', '.join(PARTS)}, or none for all of them, with {' or '.join(FLAGS)}"
        print(f"error: {' '.join(unknown)} is not known\n  fix: {fix}", file=sys.stderr)
        return 2
    measured_on = machine()
    # Some services run in this process, so it needs their configuration of the garbage collector.
    garbage_collection.configure()
    with quiet(LOG) as screen:
        try:
            parts = run_to_end(measure(screen.write, names))
        except Exception:  # noqa: BLE001 - the screen names the log with the traceback
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
