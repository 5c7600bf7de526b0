"""Print events: as a table on a terminal, as tab-separated lines elsewhere."""

from __future__ import annotations

import msgspec

from cli.console import counted, err, out
from cli.events.replaying import Replayed
from cli.table import print_line, print_rows
from cli.terminal import print_hanging
from hogsend.contract.events import Event, EventPage, Recorded, StoredEvent

_HEADINGS = ("happened at (UTC)", "event", "user", "source", "properties")
_FAR = 1000
"""Events to leave out from which on the next page is named by its cursor: the server would read
all of them again."""


def show_page(page: EventPage, base_url: str, *, continued: bool = False) -> None:
    """Print a page of events, and how to get the next one.

    Args:
        page: what the server answered.
        base_url: where it was asked.
        continued: whether the page was asked for by the cursor of the one before.
    """
    if not page.events and page.searched_to is None:
        print_hanging(err, ("", ""), f"no event at {base_url} matches; {_total(page)} in all")
        return
    if page.events:
        rows = [_cells(event) for event in page.events]
        print_rows(_HEADINGS, rows, piped=[_with_id(event) for event in page.events])
    if page.searched_to is not None:
        text = (
            f"{len(page.events)} found back to {page.searched_to:%Y-%m-%d %H:%M:%S}; "
            f"further back: --before {page.next_before}"
        )
        print_hanging(err, ("\n" if page.events else "", ""), text)
        return
    if continued:
        more = f"; older ones: --before {page.next_before}" if page.next_before else ""
        print_hanging(err, ("\n", ""), f"{len(page.events)} of {_total(page)}{more}")
        return
    seen = page.offset + len(page.events)
    more = f"; older ones: --offset {seen}" if seen < page.total else ""
    if more and page.next_before and seen >= _FAR:
        more = f"; older ones: --before {page.next_before}"
    print_hanging(err, ("\n", ""), f"{page.offset + 1} to {seen} of {_total(page)}{more}")


def _total(page: EventPage) -> str:
    return f"about {page.total:,}" if page.total_estimated else str(page.total)


def show_line(event: Event | StoredEvent) -> None:
    """Print one event on one line, its columns separated by tabs, with its id at the end."""
    print_line(_with_id(event))


def _with_id(event: Event | StoredEvent) -> list[str]:
    return [*_cells(event), event.id]


def show_sent(sent: Recorded) -> None:
    """Print what became of an event that was sent."""
    if sent.stored:
        print_hanging(out, ("stored ", "bold green"), f"{sent.id}, contact {sent.contact_key}")
    else:
        text = f"{sent.id}, which was sent before, so nothing was stored"
        print_hanging(out, ("repeated ", "bold yellow"), text)


def show_replayed(done: Replayed) -> None:
    """Print what a durable was given again."""
    if done.dry_run:
        print_hanging(
            out, ("", ""), f"{counted(done.count, 'event')} for {done.to}; none was delivered"
        )
        return
    print_hanging(out, ("replayed ", "bold green"), f"{counted(done.count, 'event')} to {done.to}")
    if done.left_out:
        text = f"{done.left_out} that are too large for the bus with the headers of a replay"
        print_hanging(out, ("left out ", "bold yellow"), text)
    if done.waiting:
        print_hanging(out, ("  ", ""), f"{done.waiting} of them still wait for it")


def show_interrupted(done: Replayed) -> None:
    """Print how to go on."""
    text = f"{done.to} was given {counted(done.count, 'event')}; to go on, add --after {done.after}"
    print_hanging(err, ("note: ", "bold yellow"), text)


def _cells(event: Event | StoredEvent) -> list[str]:
    return [
        f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
        event.event,
        event.user_id or event.contact_key,
        event.source,
        msgspec.json.encode(event.properties).decode(),
    ]
