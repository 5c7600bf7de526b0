"""Print destinations, and what became of their events."""

from __future__ import annotations

from datetime import datetime

import msgspec

from cli.admin.messages import DestinationHistory
from cli.console import counted, err, out
from cli.table import print_rows
from cli.terminal import print_hanging
from hogsend.contract.destinations import (
    Delivered,
    DeliveryPage,
    DestinationPage,
    OutboundDestination,
    Retrying,
)

_HEADINGS = ("id", "state", "last delivery (UTC)", "destination")
_DELIVERY_HEADINGS = ("finished at (UTC)", "event", "outcome", "attempts", "answer", "error")
_WIDTH = 15


def show_page(page: DestinationPage) -> None:
    """Print a page of destinations, and how to get the next one."""
    if page.webhooks:
        rows = [_row(one) for one in page.webhooks]
        piped = [[*_row(one), ",".join(one.event_types)] for one in page.webhooks]
        print_rows(_HEADINGS, rows, piped=piped)
    _print_rest(page, len(page.webhooks), "destination")


def show(found: DestinationHistory) -> None:
    """Print a destination, what it fails at, and a page of its deliveries."""
    one = found.destination
    rows = {
        "destination": f"{name(one)} ({one.id})",
        "address": one.url,
        "state": state(one),
        "event types": ", ".join(one.event_types),
        "settings": msgspec.json.encode(one.config).decode(),
        "last delivery": _time(one.last_delivery_at) or "none",
        "created": _time(one.created_at),
    }
    for heading, value in rows.items():
        print_hanging(out, (heading.ljust(_WIDTH), "bold"), value)
    if found.history.retrying is not None:
        print_hanging(out, ("fails".ljust(_WIDTH), "bold red"), _failing(found.history.retrying))
    if deliveries := found.history.deliveries:
        out.print()
        piped = [[*_delivery(each), each.event_id] for each in deliveries]
        print_rows(_DELIVERY_HEADINGS, [_delivery(each) for each in deliveries], piped=piped)
    _print_rest(found.history, len(deliveries), "event")


def name(one: OutboundDestination) -> str:
    """What a destination is called."""
    return one.description or one.url


def state(one: OutboundDestination) -> str:
    """Whether it sends events."""
    return "paused" if one.disabled else "active"


def _print_rest(page: DestinationPage | DeliveryPage, shown: int, noun: str) -> None:
    if not shown:
        print_hanging(err, ("", ""), f"no {noun}; {page.total} in all")
        return
    seen = page.offset + shown
    more = f"; older ones: --offset {seen}" if seen < page.total else ""
    print_hanging(
        err, ("\n", ""), f"{page.offset + 1} to {seen} of {counted(page.total, noun)}{more}"
    )


def _row(one: OutboundDestination) -> list[str]:
    return [one.id, state(one), _time(one.last_delivery_at), name(one)]


def _delivery(each: Delivered) -> list[str]:
    return [
        _time(each.finished_at),
        each.event_type,
        each.status,
        str(each.attempts),
        str(each.response_status or ""),
        each.error or "",
    ]


def _failing(retrying: Retrying) -> str:
    answer = f"{retrying.response_status or 'no answer'}"
    error = f" ({retrying.error})" if retrying.error else ""
    following = (
        f"the next attempt is at {_time(retrying.next_attempt_at)} UTC"
        if retrying.next_attempt_at
        else "these events are not tried again"
    )
    return f"since {_time(retrying.since)} UTC: {answer}{error}; {following}"


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
