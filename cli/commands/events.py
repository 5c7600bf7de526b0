"""`hogsend events`: list, show, send, follow and replay events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.admin.client import AdminClient
from cli.admin.messages import EventQuery, EventReplay, EventTrace, EventTraces, SentEvent
from cli.arguments import Name, OptionalName
from cli.bus_address import subscriber_address
from cli.console import print_json
from cli.errors import CommandError
from cli.events import following, report, trace
from cli.events.replaying import ReplayProgress, replay_all
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.server_options import DEFAULT_SERVER, Server, request, timestamp
from cli.terminal import Terminal
from hogsend.contract.events import Event
from hogsend.contract.json_text import NOT_JSON


@Parameter(name="*")
@dataclass(frozen=True)
class Filters:
    """Filter of events by user and source.

    Parameters
    ----------
    user
        Only events of this user id, exactly as it was sent.
    source
        Only events from this source: posthog, or hogsend for events that were sent to Hogsend.
    """

    user: str | None = None
    source: str | None = None

    def match(self, event: Event) -> bool:
        """Whether an event passes the filter."""
        return self.user in {None, event.user_id} and self.source in {None, event.source}


ANY = Filters()
MAX_SHOWN = 20
"""Number of events with the same id that `show` prints."""

app = App(name="events", help="List, show, send, follow and replay events.")


@app.command(name="list")
def list_(
    *,
    event: str | None = None,
    filters: Filters = ANY,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 50,
    offset: Annotated[int, Parameter(validator=Number(gte=0, lte=1_000_000))] = 0,
    before: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List stored events, newest first by the time they happened.

    In a pipe each event is one line with columns separated by tabs. The last column, the event's
    id, is printed in pipes only.

    Parameters
    ----------
    event
        Only events of this name.
    filters
        Filter by user and source.
    from_
        Only events that happened at this time or later: 2026-01-01 (UTC), or 2026-01-01T00:00:00Z.
    to
        Only events that happened at this time or earlier.
    limit
        Maximum number of events to list.
    offset
        Continue a list: the number of events to skip.
    before
        Continue a list: the position that the previous page printed. Faster than --offset.
    server
        The server, and the output format.
    """
    query = EventQuery(
        event=event,
        user_id=filters.user,
        source=filters.source,
        from_=from_ and timestamp(from_),
        to=to and timestamp(to),
        limit=limit,
        offset=offset,
        before=before,
    )
    page = request(server, lambda client: client.events(query))
    if server.json:
        print_json(page)
    else:
        base_url = resolve(server.url, server.admin_key).base_url
        report.show_page(page, base_url, continued=before is not None)
    return ExitCode.OK


@app.command
def show(
    id: Name,
    *,
    event: str | None = None,
    filters: Filters = ANY,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show when an event was received, queued, stored, announced and delivered.

    Announced means published to subscribers, delivered means sent to a destination.

    Several events may have the same id, from other sources or of other users; all are shown.

    Parameters
    ----------
    id
        Id of the event: the last column that `hogsend events list` prints in a pipe.
    event
        Only events of this name.
    filters
        Filter by user and source.
    server
        The server, and the output format.
    """
    query = EventQuery(
        id=id, event=event, user_id=filters.user, source=filters.source, limit=MAX_SHOWN
    )

    def fetch(client: AdminClient) -> list[EventTrace]:
        return [client.event_trace(match) for match in client.events(query).events]

    traces = request(server, fetch)
    if not traces:
        raise CommandError(
            f"no event has the id {id!r}"
            if filters == ANY and event is None
            else "no event matches",
            "see `hogsend events list`; events are deleted after EVENT_RETENTION_DAYS",
        )
    if server.json:
        print_json(EventTraces(traces))
    else:
        for one in traces:
            trace.show(one)
    return ExitCode.OK


@app.command
def send(
    name: Name,
    *,
    user: str | None = None,
    email: str | None = None,
    properties: str = "{}",
    contact_properties: str = "{}",
    key: str | None = None,
    timestamp: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Send an event to Hogsend, which stores it and publishes it to subscribers.

    Parameters
    ----------
    name
        Name of the event, for example signed_up.
    user
        User id. This or --email is required.
    email
        Email address of the user.
    properties
        Properties of the event, a JSON object.
    contact_properties
        Properties to set on the contact, a JSON object.
    key
        Idempotency key: events sent with the same key are stored once.
    timestamp
        When the event happened, for example 2026-01-01T00:00:00Z. Default: now.
    server
        The server, and the output format.
    """
    if user is None and email is None:
        raise CommandError(
            "the event has no user", "add --user or --email", exit_code=ExitCode.USAGE
        )
    event = SentEvent(
        event=name,
        user_id=user,
        email=email,
        properties=_object(properties, "--properties"),
        contact_properties=_object(contact_properties, "--contact-properties"),
        idempotency_key=key,
        timestamp=timestamp,
    )
    sent = request(server, lambda client: client.send_event(event))
    if server.json:
        print_json(sent)
    else:
        report.show_sent(sent)
    return ExitCode.OK


@app.command
def follow(
    event: str | None = None,
    *,
    filters: Filters = ANY,
    nats_url: OptionalName = None,
    json: Flag = False,
) -> int:
    """Print events as they arrive, until Ctrl-C.

    Subscribes to them on NATS, as a service of yours does. Each event is one line.

    Parameters
    ----------
    event
        Only events of this name.
    filters
        Filter by user and source.
    nats_url
        NATS URL with a user that may read events. Default: NATS_URL, else the one in
        .hogsend/subscriber.env.
    json
        Print each event as a JSON document on one line.
    """

    def print_one(received: Event) -> None:
        if filters.match(received):
            (print_json if json else report.show_line)(received)

    following.follow(subscriber_address(nats_url), event, print_one)
    return ExitCode.OK


@app.command
def replay(
    *,
    to: Name,
    since: str,
    until: str | None = None,
    dry_run: Flag = False,
    after: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Deliver past events to one subscriber again, oldest first; other subscribers get none.

    Ends when all events are sent to the subscriber. At most 10,000 of them may be unacknowledged,
    so the command waits while the subscriber catches up. Each event has the header Hogsend-Replay.

    Parameters
    ----------
    to
        The subscriber's durable consumer on EVENTS, as `hogsend consumers list` shows it.
    since
        Replay events that happened at this time or later: 2026-01-01 (UTC), or
        2026-01-01T10:00:00Z.
    until
        Replay events that happened before this time. Default: now.
    dry_run
        Only count the events.
    after
        Continue an interrupted replay: the position that it printed.
    server
        The server, and the output format.
    """
    replay_request = EventReplay(
        to=to,
        since=timestamp(since),
        until=None if until is None else timestamp(until),
        after=after,
        dry_run=dry_run,
    )
    address = resolve(server.url, server.admin_key)
    Terminal(json=server.json).warn_of_plaintext(address)
    progress = ReplayProgress(to, dry_run=dry_run)
    with AdminClient(address) as client:
        try:
            replay_all(client, replay_request, progress)
        except KeyboardInterrupt:
            if progress.after is not None and not dry_run:
                report.show_interrupted(progress)
            raise
    if server.json:
        print_json(progress)
    else:
        report.show_replayed(progress)
    return ExitCode.OK


def _object(text: str, flag: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except NOT_JSON as error:
        raise CommandError(
            f"{flag} is not a JSON object ({error})",
            f"""for example {flag} '{{"plan": "free"}}'""",
            exit_code=ExitCode.USAGE,
        ) from error
