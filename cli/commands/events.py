"""`hogsend events`: list, show, send, follow and replay events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.admin.client import AdminClient
from cli.admin.messages import EventQuery, EventReplay, EventWay, EventWays, SentEvent
from cli.arguments import Name, NameIfAny
from cli.asking import DEFAULT_SERVER, Server, ask, moment
from cli.bus_address import subscriber_address
from cli.console import print_json
from cli.errors import CommandError
from cli.events import following, report, way
from cli.events.replaying import Replayed, replayed
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.terminal import Terminal
from hogsend.contract.events import Event
from hogsend.contract.json_text import NOT_JSON


@Parameter(name="*")
@dataclass(frozen=True)
class Filters:
    """Which events of a name.

    Parameters
    ----------
    user
        Only those of this user id, as it was sent.
    source
        Only those from this source: posthog, or hogsend for those that were sent here.
    """

    user: str | None = None
    source: str | None = None

    def take(self, found: Event) -> bool:
        """Whether an event is one of them."""
        return self.user in {None, found.user_id} and self.source in {None, found.source}


ANY = Filters()
MOST_SHOWN = 20
"""Events of one id."""

app = App(name="events", help="List, show, send, follow and replay events.")


@app.command(name="list")
def list_(
    *,
    event: str | None = None,
    which: Filters = ANY,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 50,
    offset: Annotated[int, Parameter(validator=Number(gte=0, lte=1_000_000))] = 0,
    before: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List stored events, the latest that happened first.

    In a pipe every event is one line, its columns separated by tabs.

    Parameters
    ----------
    event
        Only those of this name.
    which
        Which of them.
    from_
        Only those that happened then or later: a day, or a moment as 2026-01-01T00:00:00Z.
    to
        Only those that happened then or earlier.
    limit
        How many at most.
    offset
        How many to leave out, to continue after a page.
    before
        The position that the previous page printed; faster than --offset in long lists.
    server
        The server, and the output format.
    """
    wanted = EventQuery(
        event=event,
        user_id=which.user,
        source=which.source,
        from_=from_ and moment(from_),
        to=to and moment(to),
        limit=limit,
        offset=offset,
        before=before,
    )
    page = ask(server, lambda client: client.events(wanted))
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
    which: Filters = ANY,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show what became of an event: received, queued, stored, announced, delivered, with times.

    More than one may have an id, in several sources or of several users; each of them is shown.

    Parameters
    ----------
    id
        Id of the event: the last column of `hogsend events list` when piped.
    event
        Only one of this name.
    which
        Which of them.
    server
        The server, and the output format.
    """
    wanted = EventQuery(
        id=id, event=event, user_id=which.user, source=which.source, limit=MOST_SHOWN
    )

    def ways(client: AdminClient) -> list[EventWay]:
        return [client.event_way(found) for found in client.events(wanted).events]

    found = ask(server, ways)
    if not found:
        raise CommandError(
            f"no event has the id {id!r}" if which == ANY and event is None else "no event matches",
            "see `hogsend events list`; events are deleted after EVENT_RETENTION_DAYS",
        )
    if server.json:
        print_json(EventWays(found))
    else:
        for one in found:
            way.show(one)
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
    """Send an event to Hogsend; it is stored and announced when this ends.

    Parameters
    ----------
    name
        What happened, for example signed_up.
    user
        Id of the user it belongs to; this or --email is required.
    email
        Email address of that user.
    properties
        Properties of the event, a JSON object.
    contact_properties
        Properties of the contact, a JSON object.
    key
        Idempotency key: an event that is sent again with the same key is stored once.
    timestamp
        When it happened, for example 2026-01-01T00:00:00Z; by default now.
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
    sent = ask(server, lambda client: client.send_event(event))
    if server.json:
        print_json(sent)
    else:
        report.show_sent(sent)
    return ExitCode.OK


@app.command
def follow(
    event: str | None = None,
    *,
    which: Filters = ANY,
    nats_url: NameIfAny = None,
    json: Flag = False,
) -> int:
    """Print events as they arrive, from now on, until Ctrl-C.

    Reads them from NATS, as a service of your own would; each is one line.

    Parameters
    ----------
    event
        Only those of this name.
    which
        Which of them.
    nats_url
        Address of NATS with a user that may read events; NATS_URL, else .hogsend/subscriber.env.
    json
        Print every event as one JSON document on a line of its own.
    """

    def print_one(found: Event) -> None:
        if which.take(found):
            (print_json if json else report.show_line)(found)

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
    """Deliver events to one subscriber again, oldest first; no other subscriber receives them.

    Ends when the subscriber was given all of them. It gets no more than 10,000 ahead of what it
    acknowledges, so this waits for it. Each carries the header Hogsend-Replay.

    Parameters
    ----------
    to
        The subscriber's durable on EVENTS, as `hogsend consumers list` shows it.
    since
        Events that happened then or later: 2026-01-01 (UTC), or 2026-01-01T10:00:00Z.
    until
        Only events that happened before; by default now.
    dry_run
        Only count them.
    after
        The position that an interrupted replay printed, to continue there.
    server
        The server, and the output format.
    """
    wanted = EventReplay(
        to=to,
        since=moment(since),
        until=None if until is None else moment(until),
        after=after,
        dry_run=dry_run,
    )
    address = resolve(server.url, server.admin_key)
    Terminal(json=server.json).warn_of_plaintext(address)
    so_far = Replayed(to, dry_run=dry_run)
    with AdminClient(address) as client:
        try:
            replayed(client, wanted, so_far)
        except KeyboardInterrupt:
            if so_far.after is not None and not dry_run:
                report.show_interrupted(so_far)
            raise
    if server.json:
        print_json(so_far)
    else:
        report.show_replayed(so_far)
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
