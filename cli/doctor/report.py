"""The report of `doctor`, as text and as JSON."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType
from rich.text import Text

from cli.console import out, print_hanging
from cli.doctor.checks import Check, Mark, Verdict, duration
from cli.doctor.examination import Examination
from cli.redaction import printable

_STYLES = {
    Mark.OK: "green",
    Mark.NOTE: "yellow",
    Mark.UNKNOWN: "bold yellow",
    Mark.PROBLEM: "bold red",
}
_MARK_WIDTH = 9
_NAME_WIDTH = 17


class HealthFields(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fields of the health document that the report copies undecoded."""

    version: Raw
    uptime: Raw
    components: Raw
    schema: Raw
    timestamp: Raw | UnsetType = UNSET
    services: Raw | UnsetType = UNSET


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The JSON document for a server that responded."""

    ok: bool
    verdict: Verdict
    base_url: str
    version: Raw
    uptime: Raw
    timestamp: Raw | UnsetType
    components: Raw
    schema: Raw
    services: Raw | UnsetType
    analytics: Raw | UnsetType
    dead_letters: int | UnsetType
    """Number of dead letters, if the server reported it."""


class NoReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The JSON document for a server that did not respond."""

    ok: bool = False
    verdict: Verdict = Verdict.UNREACHABLE
    base_url: str
    error: str
    fix: str


def document(examination: Examination, base_url: str) -> Report:
    """Return the JSON document of the report."""
    fields = msgspec.json.decode(examination.health_document, type=HealthFields)
    return Report(
        ok=examination.verdict is Verdict.OK,
        verdict=examination.verdict,
        base_url=base_url,
        analytics=examination.analytics,
        dead_letters=UNSET if examination.dead_letters is None else examination.dead_letters,
        **msgspec.structs.asdict(fields),
    )


def show(examination: Examination, base_url: str) -> None:
    """Print one line for each check with its fix below it, then the verdict."""
    for check in examination.checks:
        show_check(check)
    style = "bold green" if examination.verdict is Verdict.OK else "bold red"
    health = examination.health
    facts = f" (version {health.version}, up for {duration(health.uptime)})"
    verb = "replied: " if examination.verdict is Verdict.UNAUTHORIZED else "is "
    line = Text.assemble(f"\n{base_url} {verb}", (examination.verdict, style), printable(facts))
    out.print(line, soft_wrap=True)


def show_check(check: Check) -> None:
    """Print the line of a check, and the lines below it."""
    mark = f"{check.mark:<{_MARK_WIDTH}}"
    print_hanging(out, (mark, _STYLES[check.mark]), f"{check.name:<{_NAME_WIDTH}} {check.text}")
    for text in check.below:
        if text:
            print_hanging(out, (" " * _MARK_WIDTH, ""), text)
