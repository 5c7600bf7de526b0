"""`hogsend status`: show the health of a running stack."""

from __future__ import annotations

import os
from typing import Annotated

import httpx
import msgspec
from cyclopts import Parameter
from rich.table import Table

from cli.console import out, print_error
from cli.health import Health, parts

DEFAULT_URL = "http://localhost:3002"
ASK_SECONDS = 5.0

_COLOURS = {"up": "green", "down": "red"}


def status(*, url: str | None = None, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Show the health of a running stack; exits with 1 unless it is healthy.

    Parameters
    ----------
    url
        Address of the gateway; `HOGSEND_API_URL`, else http://localhost:3002.
    json
        Print the gateway's answer as JSON.
    """
    base = (url or os.environ.get("HOGSEND_API_URL") or DEFAULT_URL).rstrip("/")
    try:
        answer = httpx.get(f"{base}/v1/health", timeout=ASK_SECONDS)
        answer.raise_for_status()
        health = msgspec.json.decode(answer.content, type=Health)
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
        print_error(
            f"no healthy gateway at {base} ({type(error).__name__})",
            "start it with `hogsend up`, or give the right address with --url",
        )
        return 1
    if json:
        out.print_json(answer.text)
    else:
        out.print(_table(base, health))
    return 0 if health.status == "healthy" else 1


def _table(base: str, health: Health) -> Table:
    table = Table(title=f"{base} is {health.status}", title_justify="left", box=None)
    table.add_column("part", style="bold")
    table.add_column("state")
    table.add_column("ms", justify="right")
    table.add_column("up for", justify="right")
    for name, part in parts(health).items():
        table.add_row(
            name,
            f"[{_COLOURS.get(part.status, 'yellow')}]{part.status}[/]",
            f"{part.latency_ms:g}" if part.latency_ms is not None else "",
            f"{part.uptime:.0f} s" if part.uptime is not None else "",
        )
    for migration in health.schema.engine.pending:
        table.add_row("migration", "[yellow]pending[/]", "", migration)
    return table
