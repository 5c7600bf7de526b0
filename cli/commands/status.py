"""`hogsend status`: show the health of a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.arguments import OptionalName
from cli.console import out, print_error, print_json, print_json_text
from cli.doctor.checks import (
    Check,
    Verdict,
    credential_checks,
    duration,
    health_checks,
    verdict_of,
)
from cli.doctor.report import show_check
from cli.errors import CommandError, CommandFailed
from cli.flags import Flag
from cli.health import Health, Part, parts
from cli.redaction import printable
from cli.server_address import ServerAddress, resolve
from hogsend.contract.json_text import NOT_JSON

pause = time.sleep
"""Waits between two requests of `--watch`."""

_COLOURS = {"up": "green", "down": "red"}


def status(
    *,
    url: OptionalName = None,
    watch: Flag = False,
    every: Annotated[float, Parameter(validator=Number(gte=0.5))] = 2.0,
    json: Flag = False,
) -> int:
    """Show the health of a server: its NATS, PostgreSQL and services; exits with 1 if unhealthy.

    Problems are explained below the table. `hogsend doctor` also checks the connection to PostHog.

    Parameters
    ----------
    url
        URL of the Hogsend server. Default: HOGSEND_API_URL, else the server that `hogsend up`
        runs on this machine.
    watch
        Update until Ctrl-C, also while the server cannot be reached. The exit code is that of the
        last update.
    every
        Seconds between two updates with --watch.
    json
        Print the health document of the server and nothing else; with --watch, one document a
        line.
    """
    address = resolve(url, None)
    if not watch:
        return _print(_probe(address), json=json)
    if json or not out.is_terminal:
        return _follow(address, every, json=json)
    with out.screen():
        last = _redraw(address, every)
    if isinstance(last, CommandError):
        raise last
    return _print(last, json=False) if last else 1


class Probe(NamedTuple):
    """The health that a server reported at one time."""

    base: str
    document: bytes
    health: Health

    @property
    def checks(self) -> list[Check]:
        """The health as checks, with and without problems."""
        return [*health_checks(self.health), *credential_checks(self.health)]

    @property
    def exit_code(self) -> int:
        """0 for a healthy server, else 1."""
        return 0 if verdict_of(self.health, self.checks) is Verdict.OK else 1


def _probe(address: ServerAddress) -> Probe:
    try:
        with AdminClient(address) as client:
            document = client.health()
        health = msgspec.json.decode(document, type=Health)
    except AdminError as error:
        raise CommandError(
            f"no health document from {address.base_url}: {error.problem}", error.fix
        ) from error
    except NOT_JSON as error:
        raise CommandError(
            f"{address.base_url} did not reply with Hogsend's health document ({error})",
            "pass the URL of a Hogsend server as --url",
        ) from error
    return Probe(address.base_url, document, health)


def _print(probe: Probe, *, json: bool) -> int:
    if json:
        print_json_text(probe.document.decode())
        return probe.exit_code
    out.print(_table(probe.base, probe.health))
    for check in probe.checks:
        if not check.is_well:
            show_check(check)
    return probe.exit_code


def _probes(address: ServerAddress, every: float) -> Iterator[Probe | CommandError]:
    """Probe the server repeatedly. A server that cannot be reached yields the error."""
    while True:
        probe: Probe | CommandError
        try:
            probe = _probe(address)
        except CommandError as error:
            probe = error
        yield probe
        pause(every)


def _follow(address: ServerAddress, every: float, *, json: bool) -> int:
    """Print every probe below the one before, for a file or a program."""
    code = 1
    # Ctrl-C ends a watch at any time and is no failure.
    with suppress(KeyboardInterrupt):
        for probe in _probes(address, every):
            if isinstance(probe, CommandError):
                code = 1
                if json:
                    print_json(CommandFailed(probe.problem, probe.fix))
                else:
                    print_error(probe.problem, probe.fix)
            elif json:
                code = probe.exit_code
                print_json_text(msgspec.json.format(probe.document, indent=-1).decode())
            else:
                code = _print(probe, json=False)
    return code


def _redraw(address: ServerAddress, every: float) -> Probe | CommandError | None:
    """Show each probe in place of the one before; return the last one."""
    last = None
    with suppress(KeyboardInterrupt):
        for last in _probes(address, every):
            out.clear()
            if isinstance(last, CommandError):
                print_error(last.problem, last.fix)
            else:
                _print(last, json=False)
            at = datetime.now().astimezone()
            out.print(f"{at:%H:%M:%S}, updated every {every:g} s; Ctrl-C ends it", style="dim")
    return last


def _table(base: str, health: Health) -> Table:
    title = Text(printable(f"{base} is {health.status}"))
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("part", style="bold")
    table.add_column("state")
    table.add_column("ms", justify="right")
    table.add_column("up for", justify="right")
    for name, part in parts(health).items():
        table.add_row(
            Text(printable(name)),
            Text(printable(_state(part)), style=_COLOURS.get(part.status, "yellow")),
            f"{part.latency_ms:.1f}" if part.latency_ms is not None else "",
            duration(part.uptime) if part.uptime is not None else "",
        )
    return table


def _state(part: Part) -> str:
    waiting = f"waiting: {part.waits_for}" if part.waits_for else ""
    return ", ".join(fact for fact in (part.status, waiting, part.workers_summary) if fact)
