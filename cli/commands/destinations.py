"""`hogsend destinations`: list, pause, test and delete them; see `docs/destinations.md`."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.admin.client import AdminClient, Switch
from cli.admin.errors import AdminError
from cli.admin.messages import DeliveryQuery, DestinationHistory
from cli.arguments import Name
from cli.confirmation import confirm, require_terminal
from cli.console import out, print_hanging, print_json
from cli.destinations import report
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_options import DEFAULT_SERVER, Server, request
from hogsend.contract.destinations import DeliveryStatus

Reply = TypeVar("Reply")

Limit = Annotated[
    int, Parameter(validator=Number(gte=1, lte=100), help="Maximum number of rows to list.")
]
Offset = Annotated[
    int,
    Parameter(
        validator=Number(gte=0, lte=1_000_000),
        help="Continue a list: the number of rows to skip.",
    ),
]
Id = Annotated[Name, Parameter(help="Id of the destination, as `list` shows it.")]

app = App(name="destinations", help="List, show, pause, resume, test and delete destinations.")


@app.command(name="list")
def list_(*, limit: Limit = 50, offset: Offset = 0, server: Server = DEFAULT_SERVER) -> int:
    """List the destinations that events are delivered to, newest first."""
    page = request(server, lambda client: client.destinations(limit, offset))
    if server.json:
        print_json(page)
    else:
        report.show_page(page)
    return ExitCode.OK


@app.command
def show(
    id: Id,
    *,
    status: Annotated[
        DeliveryStatus | None, Parameter(help="Only deliveries with this outcome.")
    ] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show a destination, its current failure if it has one, and its latest deliveries."""
    query = DeliveryQuery(status=status, limit=limit, offset=offset)

    def fetch(client: AdminClient) -> DestinationHistory:
        return DestinationHistory(client.destination(id), client.deliveries(id, query))

    history = _request(id, server, fetch)
    if server.json:
        print_json(history)
    else:
        report.show(history)
    return ExitCode.OK


@app.command
def pause(id: Id, *, server: Server = DEFAULT_SERVER) -> int:
    """Pause a destination: discard its events until it is resumed, waiting retries included."""
    return _switch(id, "pause", server)


@app.command
def resume(id: Id, *, server: Server = DEFAULT_SERVER) -> int:
    """Resume a paused destination: deliver the events that arrive from now on."""
    return _switch(id, "resume", server)


@app.command(name="test")
def send_test(id: Id, *, server: Server = DEFAULT_SERVER) -> int:
    """Send the event webhook.test to this destination only; `show` lists its delivery."""
    queued = _request(id, server, lambda client: client.test_destination(id))
    if server.json:
        print_json(queued)
    else:
        text = f"{queued.event_type}; `hogsend destinations show {id}` lists its delivery"
        print_hanging(out, ("queued ", "bold green"), text)
    return ExitCode.OK


@app.command
def delete(
    id: Id,
    *,
    yes: Annotated[Flag, Parameter(help="Skip the confirmation.")] = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Delete a destination, its history and its waiting events, after a confirmation."""
    if not yes:
        require_terminal("deleting a destination", json=server.json)
        destination = _request(id, server, lambda client: client.destination(id))
        name = report.name(destination)
        if not confirm(f"Delete {name} ({id}), its history and its waiting events?"):
            print_hanging(out, ("", ""), "nothing was deleted")
            return ExitCode.FAILED
    deleted = _request(id, server, lambda client: client.delete_destination(id))
    if server.json:
        print_json(deleted)
    else:
        print_hanging(out, ("deleted ", "bold green"), id)
    return ExitCode.OK


def _switch(id: str, switch: Switch, server: Server) -> int:
    changed = _request(id, server, lambda client: client.switch_destination(id, switch))
    if server.json:
        print_json(changed)
    else:
        print_hanging(out, (f"{report.state(changed)} ", "bold green"), report.name(changed))
    return ExitCode.OK


def _request(id: str, server: Server, call: Callable[[AdminClient], Reply]) -> Reply:
    try:
        return request(server, call)
    except AdminError as error:
        # A 404 without `error` is not a response of Hogsend: the URL is another server's.
        if error.status != HTTPStatus.NOT_FOUND or error.code is None:
            raise
        raise CommandError(
            f"no destination has the id {id!r}", "see `hogsend destinations list`"
        ) from error
