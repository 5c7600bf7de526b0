"""Print destinations and their deliveries."""

from __future__ import annotations

from datetime import datetime

import msgspec

from cli.admin.messages import DestinationHistory
from cli.console import err, out, print_hanging, quantity
from cli.table import print_rows
from hogsend.contract.destinations import (
    Delivered,
    DeliveryPage,
    DestinationPage,
    OutboundDestination,
    Retrying,
)

_HEADINGS = ("id", "state", "last delivery (UTC)", "destination")
_DELIVERY_HEADINGS = ("finished at (UTC)", "event", "outcome", "attempts", "status", "error")
_WIDTH = 15


def show_page(page: DestinationPage) -> None:
    """Print a page of destinations, and how to get the next page."""
    if page.webhooks:
        rows = [_row(destination) for destination in page.webhooks]
        piped = [[*_row(one), ",".join(one.event_types)] for one in page.webhooks]
        print_rows(_HEADINGS, rows, piped=piped)
    _print_footer(page, len(page.webhooks), "destination")


def show(history: DestinationHistory) -> None:
    """Print a destination, its current failure, and a page of its deliveries."""
    destination = history.destination
    rows = {
        "destination": f"{name(destination)} ({destination.id})",
        "URL": destination.url,
        "state": state(destination),
        "event types": ", ".join(destination.event_types),
        "settings": msgspec.json.encode(destination.config).decode(),
        "last delivery": _time(destination.last_delivery_at) or "none",
        "created": _time(destination.created_at),
    }
    for heading, value in rows.items():
        print_hanging(out, (heading.ljust(_WIDTH), "bold"), value)
    page = history.history
    if page.retrying is not None:
        print_hanging(out, ("failing".ljust(_WIDTH), "bold red"), _failure(page.retrying))
    if page.deliveries:
        out.print()
        piped = [[*_delivery(one), one.event_id] for one in page.deliveries]
        print_rows(_DELIVERY_HEADINGS, [_delivery(one) for one in page.deliveries], piped=piped)
    _print_footer(page, len(page.deliveries), "event")


def name(destination: OutboundDestination) -> str:
    """Return a destination's description, or its URL if it has none."""
    return destination.description or destination.url


def state(destination: OutboundDestination) -> str:
    """Return whether a destination is active or paused."""
    return "paused" if destination.disabled else "active"


def _print_footer(page: DestinationPage | DeliveryPage, shown: int, noun: str) -> None:
    if not shown:
        print_hanging(err, ("", ""), f"no {noun}; {page.total} in all")
        return
    seen = page.offset + shown
    more = f"; next page: --offset {seen}" if seen < page.total else ""
    print_hanging(
        err, ("\n", ""), f"{page.offset + 1} to {seen} of {quantity(page.total, noun)}{more}"
    )


def _row(destination: OutboundDestination) -> list[str]:
    return [
        destination.id,
        state(destination),
        _time(destination.last_delivery_at),
        name(destination),
    ]


def _delivery(delivery: Delivered) -> list[str]:
    return [
        _time(delivery.finished_at),
        delivery.event_type,
        delivery.status,
        str(delivery.attempts),
        str(delivery.response_status or ""),
        delivery.error or "",
    ]


def _failure(retrying: Retrying) -> str:
    response = f"{retrying.response_status or 'no response'}"
    error = f" ({retrying.error})" if retrying.error else ""
    next_attempt = (
        f"the next attempt is at {_time(retrying.next_attempt_at)} UTC"
        if retrying.next_attempt_at
        else "these events are not retried"
    )
    return f"since {_time(retrying.since)} UTC: {response}{error}; {next_attempt}"


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else ""
