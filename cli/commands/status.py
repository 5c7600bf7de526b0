"""`hogsend status`: show the health of a running stack."""

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
from cli.arguments import NameIfAny
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
"""Waits between two looks."""

_COLOURS = {"up": "green", "down": "red"}


def status(
    *,
    url: NameIfAny = None,
    watch: Flag = False,
    every: Annotated[float, Parameter(validator=Number(gte=0.5))] = 2.0,
    json: Flag = False,
) -> int:
    """Show the health of a running stack; exits with 1 unless it is healthy.

    What no service reported on is unknown. The hints below the table say what to do;
    `hogsend doctor` looks at PostHog's side too.

    Parameters
    ----------
    url
        Address of the gateway; HOGSEND_API_URL, else the one `hogsend up` runs here.
    watch
        Look again and again until Ctrl-C, also while the gateway cannot be reached; then exit with
        what the last look found.
    every
        Seconds between two updates with `--watch`.
    json
        Print the gateway's answer, one JSON document, and nothing else; with `--watch`, one a line.
    """
    address = resolve(url, None)
    if not watch:
        return _print(_look(address), json=json)
    if json or not out.is_terminal:
        return _follow(address, every, json=json)
    with out.screen():
        last = _redraw(address, every)
    if isinstance(last, CommandError):
        raise last
    return _print(last, json=False) if last else 1


class Look(NamedTuple):
    """What the gateway said at one moment."""

    base: str
    document: bytes
    health: Health

    @property
    def checks(self) -> list[Check]:
        """What is well, and what is not."""
        return [*health_checks(self.health), *credential_checks(self.health)]

    @property
    def exit_code(self) -> int:
        """0 for a healthy stack."""
        return 0 if verdict_of(self.health, self.checks) is Verdict.OK else 1


def _look(address: ServerAddress) -> Look:
    try:
        with AdminClient(address) as client:
            document = client.health()
        health = msgspec.json.decode(document, type=Health)
    except AdminError as error:
        raise CommandError(
            f"no health from {address.base_url}: {error.problem}", error.fix
        ) from error
    except NOT_JSON as error:
        raise CommandError(
            f"{address.base_url} answered, but not with Hogsend's health document ({error})",
            "give the address of a Hogsend server with --url",
        ) from error
    return Look(address.base_url, document, health)


def _print(look: Look, *, json: bool) -> int:
    if json:
        print_json_text(look.document.decode())
        return look.exit_code
    out.print(_table(look.base, look.health))
    for check in look.checks:
        if not check.is_well:
            show_check(check)
    return look.exit_code


def _looks(address: ServerAddress, every: float) -> Iterator[Look | CommandError]:
    """Look again and again; a gateway that cannot be reached is worth looking at again."""
    while True:
        look: Look | CommandError
        try:
            look = _look(address)
        except CommandError as error:
            look = error
        yield look
        pause(every)


def _follow(address: ServerAddress, every: float, *, json: bool) -> int:
    """Print one look after the other, for a file or a program."""
    code = 1
    # Ctrl-C is how a watch ends, whatever it does just then.
    with suppress(KeyboardInterrupt):
        for look in _looks(address, every):
            if isinstance(look, CommandError):
                code = 1
                if json:
                    print_json(CommandFailed(look.problem, look.fix))
                else:
                    print_error(look.problem, look.fix)
            elif json:
                code = look.exit_code
                print_json_text(msgspec.json.format(look.document, indent=-1).decode())
            else:
                code = _print(look, json=False)
    return code


def _redraw(address: ServerAddress, every: float) -> Look | CommandError | None:
    """Show each look where the one before was, on a screen of its own."""
    last = None
    with suppress(KeyboardInterrupt):
        for last in _looks(address, every):
            out.clear()
            if isinstance(last, CommandError):
                print_error(last.problem, last.fix)
            else:
                _print(last, json=False)
            at = datetime.now().astimezone()
            out.print(f"[dim]{at:%H:%M:%S}, again every {every:g} s; Ctrl-C ends it[/]")
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
            f"{part.latency_ms:g}" if part.latency_ms is not None else "",
            duration(part.uptime) if part.uptime is not None else "",
        )
    return table


def _state(part: Part) -> str:
    waiting = f"waits: {part.waits_for}" if part.waits_for else ""
    return ", ".join(fact for fact in (part.status, waiting, part.workers_said) if fact)
