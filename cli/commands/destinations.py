"""`hogsend destinations`: look at, pause, test and delete them; see `docs/destinations.md`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.admin.client import AdminClient, Turn
from cli.admin.messages import DeliveryQuery, DestinationHistory
from cli.arguments import Name
from cli.asking import DEFAULT_SERVER, Server, ask
from cli.confirmation import confirmed, require_terminal
from cli.console import out, print_json
from cli.destinations import report
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.terminal import print_hanging
from hogsend.contract.destinations import DeliveryStatus

Limit = Annotated[int, Parameter(validator=Number(gte=1, lte=100), help="How many at most.")]
Offset = Annotated[
    int,
    Parameter(
        validator=Number(gte=0, lte=1_000_000),
        help="How many to leave out, to continue after a page.",
    ),
]
Id = Annotated[Name, Parameter(help="Id of the destination, as `list` shows it.")]

app = App(name="destinations", help="Look at, pause, test and delete destinations.")


@app.command(name="list")
def list_(*, limit: Limit = 50, offset: Offset = 0, server: Server = DEFAULT_SERVER) -> int:
    """List destinations, newest first."""
    page = ask(server, lambda client: client.destinations(limit, offset))
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
        DeliveryStatus | None, Parameter(help="Only deliveries that ended like this.")
    ] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show a destination, what it fails at, and what became of its latest events."""
    wanted = DeliveryQuery(status=status, limit=limit, offset=offset)

    def history(client: AdminClient) -> DestinationHistory:
        return DestinationHistory(client.destination(id), client.deliveries(id, wanted))

    found = ask(server, history)
    if server.json:
        print_json(found)
    else:
        report.show(found)
    return ExitCode.OK


@app.command
def pause(id: Id, *, server: Server = DEFAULT_SERVER) -> int:
    """Discard a destination's events until it is resumed, also those that wait for an attempt."""
    return _turn(id, "pause", server)


@app.command
def resume(id: Id, *, server: Server = DEFAULT_SERVER) -> int:
    """Send events to a paused destination again, from now on."""
    return _turn(id, "resume", server)


@app.command(name="test")
def send_test(id: Id, *, server: Server = DEFAULT_SERVER) -> int:
    """Send webhook.test to one destination only; `show` says what became of it."""
    queued = ask(server, lambda client: client.test_destination(id))
    if server.json:
        print_json(queued)
    else:
        text = f"{queued.event_type}; `hogsend destinations show {id}` says what became of it"
        print_hanging(out, ("queued ", "bold green"), text)
    return ExitCode.OK


@app.command
def delete(
    id: Id,
    *,
    yes: Annotated[Flag, Parameter(help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Delete a destination, its history, and the events that wait for it; asks first."""
    if not yes:
        require_terminal("deleting a destination", json=server.json)
        found = ask(server, lambda client: client.destination(id))
        if not confirmed(f"Delete {report.name(found)} ({id}), its history and what waits for it?"):
            print_hanging(out, ("", ""), "nothing was deleted")
            return ExitCode.FAILED
    deleted = ask(server, lambda client: client.delete_destination(id))
    if server.json:
        print_json(deleted)
    else:
        print_hanging(out, ("deleted ", "bold green"), id)
    return ExitCode.OK


def _turn(id: str, turn: Turn, server: Server) -> int:
    changed = ask(server, lambda client: client.turn_destination(id, turn))
    if server.json:
        print_json(changed)
    else:
        print_hanging(out, (f"{report.state(changed)} ", "bold green"), report.name(changed))
    return ExitCode.OK
