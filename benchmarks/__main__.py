"""Runs everything and prints a table, then the same as JSON: `python -m benchmarks [--readme]`.

With the names of parts, for example `python -m benchmarks bearers persons`, only those.
"""

from __future__ import annotations

import gc
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import psutil
import uvloop

from benchmarks import (
    bearers,
    capturing,
    cost,
    crowd,
    ingest,
    persons,
    propagation,
    stack,
    syncing,
    webhooks,
)
from benchmarks.figures import Figure
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.servers import running_servers

README = Path(__file__).parents[1] / "README.md"
Part = Callable[[], Awaitable[list[Figure]]]
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


async def measure(wanted: Sequence[str] = ()) -> list[Figure]:
    """Measure what is wanted, or everything, one after the other, on servers of this run's own."""
    async with running_servers() as servers:
        operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await operator.open()
        figures = await _run(
            {
                "webhooks": partial(webhooks.measure, servers, operator),
                "ingest": partial(ingest.measure, servers, operator),
                "cost": partial(cost.measure, servers, operator),
                "propagation": partial(propagation.measure, servers),
                "bearers": partial(bearers.measure, servers),
                "persons": partial(persons.measure, servers),
                "capturing": partial(capturing.measure, servers),
                "crowd": partial(crowd.measure, servers),
            },
            wanted,
        )
        await operator.close()
    # These start servers of their own, and measure best where no others run.
    return figures + await _run({"syncing": syncing.measure, "stack": stack.measure}, wanted)


async def _run(parts: Mapping[str, Part], wanted: Sequence[str]) -> list[Figure]:
    figures = []
    for name, part in parts.items():
        if not wanted or name in wanted:
            print(f"{name} ...", file=sys.stderr)
            figures += await part()
    return figures


def table(figures: Sequence[Figure]) -> str:
    """Write the figures as a Markdown table."""
    lines = ["| figure | value | goal | in detail |", "|---|---|---|---|"]
    for figure in figures:
        details = ", ".join(f"{name} {value:g}" for name, value in figure.details.items())
        lines.append(f"| {figure.name} | {figure.value} | {figure.goal} | {details} |")
    machine = f"{psutil.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}."])


def main() -> int:
    """Run, print, and with `--readme` put the table into the README."""
    if shutil.which("wrk") is None:
        print("error: the benchmarks need wrk\n  fix: apt-get install wrk", file=sys.stderr)
        return 1
    # As the services do, some of which run in this process.
    gc.freeze()
    figures = uvloop.run(measure([name for name in sys.argv[1:] if not name.startswith("-")]))
    print(table(figures))
    print(msgspec.json.encode(figures).decode())
    if "--readme" in sys.argv:
        text = README.read_text()
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(f"{head}{BEGIN}\n{table(figures)}\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
