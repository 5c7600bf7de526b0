"""Print an event's way through Hogsend, step by step."""

from __future__ import annotations

from datetime import datetime

from cli.admin.messages import EventTrace
from cli.console import out, print_hanging, quantity
from cli.redaction import printable
from hogsend.contract.destinations import EventDelivery

_MAX_CHARACTERS = 200
_WIDTH = 11
_NOT_ANNOUNCED = {
    "absent": "no: EVENTS has no message for it",
    "expired": "unknown: EVENTS no longer has messages from that time",
    "unknown": "unknown: NATS does not reply, or too many events of this name were published then",
}


def show(trace: EventTrace) -> None:
    """Print an event's steps, each with its time (UTC) and the seconds since it was received."""
    event = trace.event
    received = event.received_at
    user = event.user_id or event.contact_key
    print_hanging(out, (_text(event.event), "bold"), f" of {_text(user)}, from {event.source}")
    _step("happened", _at(event.occurred_at), "by the sender's clock")
    how = "by a backfill, which started at this time" if event.backfilled else ""
    _step("received", _at(received), how or _request(trace.correlation_id))
    _step("queued", _at(trace.queued_at, received) or "no, or its time was not recorded")
    _step("stored", _at(trace.stored_at, received) or "its time was not recorded")
    announcement = trace.announcement
    if announcement.state == "announced":
        otel_trace = f", trace {_text(announcement.trace_id)}" if announcement.trace_id else ""
        message = f"message {announcement.sequence} of EVENTS{otel_trace}"
        _step("announced", _at(announcement.at, received), message)
    else:
        _step("announced", _NOT_ANNOUNCED[announcement.state])
    if trace.deliveries is None:
        _step("delivered", "unknown: analytics does not reply")
    elif not trace.deliveries:
        _step("delivered", "no delivery in the history of any destination")
    for delivery in trace.deliveries or ():
        _step(delivery.status, _at(delivery.finished_at, received), _delivery(delivery))


def _step(name: str, *parts: str) -> None:
    print_hanging(out, (f"  {name:<{_WIDTH}}", ""), ", ".join(filter(None, parts)))


def _at(time: datetime | None, received: datetime | None = None) -> str:
    if time is None:
        return ""
    text = f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03}Z"
    # Negative if the clocks of two machines differ.
    if received is None or (seconds := (time - received).total_seconds()) < 0:
        return text
    return f"{text} +{seconds:.3f} s"


def _request(correlation_id: str | None) -> str:
    return f"request {_text(correlation_id)}" if correlation_id else ""


def _delivery(delivery: EventDelivery) -> str:
    status = f", PostHog replied {delivery.response_status}" if delivery.response_status else ""
    error = f": {_text(delivery.error)}" if delivery.error else ""
    destination = _text(delivery.description or delivery.destination_id)
    return f"to {destination} after {quantity(delivery.attempts, 'attempt')}{status}{error}"


def _text(text: str) -> str:
    shortened = " ".join(printable(text[:_MAX_CHARACTERS]).split())
    return shortened if len(text) <= _MAX_CHARACTERS else f"{shortened}..."
