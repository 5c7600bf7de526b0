"""Runs everything and prints a table, then the same as JSON: `python -m benchmarks [--readme]`."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import uvloop

from benchmarks import bearers, capturing, ingest, persons, propagation, stack, syncing, webhooks
from benchmarks.figures import Figure
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.servers import running_servers

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


async def measure() -> list[Figure]:
    """Measure everything, one after the other, on servers of this run's own."""
    figures = []
    async with running_servers() as servers:
        operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await operator.open()
        print("webhooks ...", file=sys.stderr)
        figures += await webhooks.measure(servers, operator)
        print("ingest ...", file=sys.stderr)
        figures += await ingest.measure(servers, operator)
        print("credential changes ...", file=sys.stderr)
        figures += await propagation.measure(servers)
        print("bearers ...", file=sys.stderr)
        figures += await bearers.measure(servers)
        print("persons ...", file=sys.stderr)
        figures += await persons.measure(servers)
        print("events into PostHog ...", file=sys.stderr)
        figures += await capturing.measure(servers)
        await operator.close()
    print("sync intervals ...", file=sys.stderr)
    figures += await syncing.measure()
    print("start and memory ...", file=sys.stderr)
    return figures + await stack.measure()


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
    figures = uvloop.run(measure())
    print(table(figures))
    print(msgspec.json.encode(figures).decode())
    if "--readme" in sys.argv:
        text = README.read_text()
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(f"{head}{BEGIN}\n{table(figures)}\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
