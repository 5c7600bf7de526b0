"""`hogsend status`: show the health of a running stack."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.table import Table

from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.console import out, print_json_text
from cli.doctor.checks import Verdict, credential_checks, health_checks, verdict_of
from cli.doctor.report import show_check
from cli.errors import CommandError
from cli.health import Health, Part, parts
from cli.server_address import resolve

_COLOURS = {"up": "green", "down": "red"}


def status(
    *,
    url: str | None = None,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Show the health of a running stack; exits with 1 unless it is healthy.

    What nobody answered for is unknown. Below the table stands what to do about each problem;
    `hogsend doctor` looks at PostHog's side too.

    Parameters
    ----------
    url
        Address of the gateway; HOGSEND_API_URL, else http://localhost:3002.
    json
        Print the gateway's answer, one JSON document, and nothing else.
    """
    address = resolve(url, None)
    try:
        with AdminClient(address) as client:
            document = client.health()
        health = msgspec.json.decode(document, type=Health)
    except AdminError as error:
        raise CommandError(
            f"no health from {address.base_url}: {error.problem}", error.fix
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{address.base_url} answered, but not with Hogsend's health document ({error})",
            "give the address of a Hogsend server with --url",
        ) from error
    checks = [*health_checks(health), *credential_checks(health)]
    if json:
        print_json_text(document.decode())
    else:
        out.print(_table(address.base_url, health))
        for check in checks:
            if not check.is_well:
                show_check(check)
    return 0 if verdict_of(health, checks) is Verdict.OK else 1


def _table(base: str, health: Health) -> Table:
    table = Table(title=f"{base} is {health.status}", title_justify="left", box=None)
    table.add_column("part", style="bold")
    table.add_column("state")
    table.add_column("ms", justify="right")
    table.add_column("up for", justify="right")
    for name, part in parts(health).items():
        table.add_row(
            name,
            f"[{_COLOURS.get(part.status, 'yellow')}]{_state(part)}[/]",
            f"{part.latency_ms:g}" if part.latency_ms is not None else "",
            f"{part.uptime:.0f} s" if part.uptime is not None else "",
        )
    return table


def _state(part: Part) -> str:
    return f"{part.status}, waits for {part.waits_for}" if part.waits_for else part.status
