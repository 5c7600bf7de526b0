"""Print backfills."""

from __future__ import annotations

from cli.console import out, print_hanging
from cli.redaction import printable
from hogsend.contract.backfills import Backfill


def status_line(backfill: Backfill) -> str:
    """Return the state of a backfill in a few words, for the progress bar."""
    if backfill.state != "running":
        return backfill.state
    if backfill.detail:
        return f"waiting: {printable(backfill.detail)}"
    return f"at {backfill.position:%Y-%m-%d %H:%M}" if backfill.position else "running"


def show(backfill: Backfill) -> None:
    """Print a backfill: its events, counts, problem and fix."""
    names = f", only {', '.join(backfill.events)}" if backfill.events else ""
    span = f"{backfill.since:%Y-%m-%dT%H:%M:%SZ} to {backfill.until:%Y-%m-%dT%H:%M:%SZ}"
    print_hanging(out, (f"{backfill.state} ", "bold"), f"events from {span}{names}")
    counts = (
        f"{backfill.read} of {backfill.total} read: {backfill.stored} stored, "
        f"{backfill.known} already stored, {backfill.rejected} rejected"
    )
    print_hanging(out, ("  ", ""), counts)
    published = "published" if backfill.announce else "not published"
    print_hanging(out, ("  ", ""), f"new events were {published} to subscribers")
    if backfill.left_out:
        print_hanging(out, ("  ", ""), backfill.left_out)
    if backfill.detail:
        print_hanging(out, ("  ", ""), backfill.detail)
    if backfill.remediation:
        print_hanging(out, ("  fix: ", "bold"), backfill.remediation)
