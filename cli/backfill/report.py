"""Print backfills."""

from __future__ import annotations

from cli.console import out
from cli.redaction import printable
from cli.terminal import print_hanging
from hogsend.contract.backfills import Backfill


def line_of(found: Backfill) -> str:
    """In a few words, what it does now."""
    if found.state != "running":
        return found.state
    if found.detail:
        return f"waits: {printable(found.detail)}"
    return f"at {found.position:%Y-%m-%d %H:%M}" if found.position else "running"


def show(found: Backfill) -> None:
    """Print a backfill."""
    names = f", only {', '.join(found.events)}" if found.events else ""
    span = f"{found.since:%Y-%m-%dT%H:%M:%SZ} to {found.until:%Y-%m-%dT%H:%M:%SZ}"
    print_hanging(out, (f"{found.state} ", "bold"), f"events of {span}{names}")
    counts = (
        f"{found.read} of {found.total} read: {found.stored} stored, {found.known} known already, "
        f"{found.rejected} not to be stored"
    )
    print_hanging(out, ("  ", ""), counts)
    told = "subscribers heard of those" if found.announce else "subscribers heard of none"
    print_hanging(out, ("  ", ""), told)
    if found.left_out:
        print_hanging(out, ("  ", ""), found.left_out)
    if found.detail:
        print_hanging(out, ("  ", ""), found.detail)
    if found.remediation:
        print_hanging(out, ("  fix: ", "bold"), found.remediation)
