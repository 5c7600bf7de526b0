"""Print events: as a table on a terminal, as tab-separated lines elsewhere."""

from __future__ import annotations

import msgspec

from cli.console import err, out, print_hanging, quantity
from cli.events.replaying import ReplayProgress
from cli.table import print_line, print_rows
from hogsend.contract.events import Event, EventPage, Recorded, StoredEvent

_HEADINGS = ("happened at (UTC)", "event", "user", "source", "properties")
_MAX_OFFSET = 1000
"""From this offset on, the next page is suggested by --before: with --offset the server reads all
the skipped events again."""


def show_page(page: EventPage, base_url: str, *, continued: bool = False) -> None:
    """Print a page of events, and how to get the next page.

    Args:
        page: the page.
        base_url: URL of the server.
        continued: whether the page was requested with --before.
    """
    if not page.events and page.searched_to is None:
        print_hanging(err, ("", ""), f"no event at {base_url} matches; {_total(page)} in all")
        return
    if page.events:
        rows = [_cells(event) for event in page.events]
        print_rows(_HEADINGS, rows, piped=[_with_id(event) for event in page.events])
    if page.searched_to is not None:
        text = (
            f"{quantity(len(page.events), 'event')} since {page.searched_to:%Y-%m-%d %H:%M:%S}; "
            f"to search earlier events: --before {page.next_before}"
        )
        print_hanging(err, ("\n" if page.events else "", ""), text)
        return
    if continued:
        more = f"; next page: --before {page.next_before}" if page.next_before else ""
        print_hanging(err, ("\n", ""), f"{len(page.events)} of {_total(page)}{more}")
        return
    seen = page.offset + len(page.events)
    more = f"; next page: --offset {seen}" if seen < page.total else ""
    if more and page.next_before and seen >= _MAX_OFFSET:
        more = f"; next page: --before {page.next_before}"
    print_hanging(err, ("\n", ""), f"{page.offset + 1} to {seen} of {_total(page)}{more}")


def _total(page: EventPage) -> str:
    if page.total_estimated:
        return f"about {page.total:,} events"
    return quantity(page.total, "event")


def show_line(event: Event | StoredEvent) -> None:
    """Print one event as a line of tab-separated columns, the id last."""
    print_line(_with_id(event))


def _with_id(event: Event | StoredEvent) -> list[str]:
    return [*_cells(event), event.id]


def show_sent(sent: Recorded) -> None:
    """Print whether an event that was sent is new."""
    if sent.stored:
        print_hanging(out, ("stored ", "bold green"), f"{sent.id}, contact {sent.contact_key}")
    else:
        text = f"{sent.id}, which was sent before; nothing was stored"
        print_hanging(out, ("repeated ", "bold yellow"), text)


def show_replayed(done: ReplayProgress) -> None:
    """Print the result of a replay."""
    if done.dry_run:
        print_hanging(
            out, ("", ""), f"{quantity(done.count, 'event')} for {done.to}; none was delivered"
        )
        return
    print_hanging(out, ("replayed ", "bold green"), f"{quantity(done.count, 'event')} to {done.to}")
    if done.left_out:
        text = f"{quantity(done.left_out, 'event')} too large for NATS with the headers of a replay"
        print_hanging(out, ("skipped ", "bold yellow"), text)
    if done.waiting:
        print_hanging(out, ("  ", ""), f"{done.waiting} of them are not acknowledged yet")


def show_interrupted(done: ReplayProgress) -> None:
    """Print how to continue an interrupted replay."""
    events = quantity(done.count, "event")
    text = f"replayed {events} to {done.to}; to continue, add --after {done.after}"
    print_hanging(err, ("note: ", "bold yellow"), text)


def _cells(event: Event | StoredEvent) -> list[str]:
    return [
        f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
        event.event,
        event.user_id or event.contact_key,
        event.source,
        msgspec.json.encode(event.properties).decode(),
    ]
