"""Print what became of an event, step by step."""

from __future__ import annotations

from datetime import datetime

from cli.admin.messages import EventWay
from cli.console import out
from cli.redaction import printable
from cli.terminal import print_hanging
from hogsend.contract.destinations import EventDelivery

_MOST_CHARACTERS = 200
_WIDTH = 11
_NOT_ANNOUNCED = {
    "absent": "no: the stream has no message of it",
    "expired": "not known any more: the stream does not reach back that far",
    "unknown": "not known: NATS does not answer, or very many of this name came at the time",
}


def show(way: EventWay) -> None:
    """Print one event's steps, each with its time (UTC) and how long after its receipt it was."""
    event = way.event
    since = event.received_at
    whose = event.user_id or event.contact_key
    print_hanging(out, (_text(event.event), "bold"), f" of {_text(whose)}, from {event.source}")
    _step("happened", _at(event.occurred_at), "by the reporter's clock")
    how = "by a backfill, which started then" if event.backfilled else ""
    _step("received", _at(since), how or _request(way.correlation_id))
    _step("queued", _at(way.queued_at, since) or "not, or the time was not kept")
    _step("stored", _at(way.stored_at, since) or "the time was not kept")
    said = way.announcement
    if said.state == "announced":
        trace = f", trace {_text(said.trace_id)}" if said.trace_id else ""
        _step("announced", _at(said.at, since), f"message {said.sequence} of EVENTS{trace}")
    else:
        _step("announced", _NOT_ANNOUNCED[said.state])
    if way.deliveries is None:
        _step("delivered", "not known: analytics does not answer")
    elif not way.deliveries:
        _step("delivered", "to no destination that keeps it in its history")
    for one in way.deliveries or ():
        _step(one.status, _at(one.finished_at, since), _delivery(one))


def _step(name: str, *parts: str) -> None:
    print_hanging(out, (f"  {name:<{_WIDTH}}", ""), ", ".join(filter(None, parts)))


def _at(moment: datetime | None, since: datetime | None = None) -> str:
    if moment is None:
        return ""
    shown = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}Z"
    # The clocks of two machines may say that it was before.
    if since is None or (seconds := (moment - since).total_seconds()) < 0:
        return shown
    return f"{shown} +{seconds:.3f} s"


def _request(correlation: str | None) -> str:
    return f"request {_text(correlation)}" if correlation else ""


def _delivery(one: EventDelivery) -> str:
    answer = f", PostHog answered {one.response_status}" if one.response_status else ""
    error = f": {_text(one.error)}" if one.error else ""
    times = "1 attempt" if one.attempts == 1 else f"{one.attempts} attempts"
    return f"to {_text(one.description or one.destination_id)} after {times}{answer}{error}"


def _text(text: str) -> str:
    shown = " ".join(printable(text[:_MOST_CHARACTERS]).split())
    return shown if len(text) <= _MOST_CHARACTERS else f"{shown}..."
