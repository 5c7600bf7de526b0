"""`hogsend backfill`: import past events from PostHog; see `docs/backfill.md`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from cli.admin.client import AdminClient
from cli.admin.messages import NewBackfill
from cli.backfill import report
from cli.backfill.progress import follow
from cli.console import err, out, print_hanging, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.server_options import DEFAULT_SERVER, Server, request, timestamp
from hogsend.contract.backfills import Backfill, BackfillList

app = App(
    name="backfill",
    help="Import past events from PostHog; show and cancel backfills.",
)


@app.command
def posthog(
    *,
    since: str,
    until: str | None = None,
    event: Annotated[list[str] | None, Parameter(negative="")] = None,
    announce: Flag = False,
    dry_run: Flag = False,
    detach: Flag = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Import events that PostHog has and this server does not, oldest first.

    The server runs the backfill. Ctrl-C stops only the progress display. Running the same command
    again continues a backfill that did not finish. Exits with 1 unless the backfill finished.

    Parameters
    ----------
    since
        Import events that happened at this time or later: 2026-01-01 (UTC), or
        2026-01-01T00:00:00Z.
    until
        Import events that happened before this time. Default: now.
    event
        Only events of this name. Can be repeated.
    announce
        Publish the imported events to subscribers. Without it they are only stored.
    dry_run
        Only count the events.
    detach
        Start the backfill without showing its progress.
    server
        The server, and the output format.
    """
    new_backfill = NewBackfill(
        since=timestamp(since),
        until=None if until is None else timestamp(until),
        events=sorted(set(event or [])),
        announce=announce,
    )
    if dry_run:
        preview = request(server, lambda client: client.count_backfill(new_backfill))
        if server.json:
            print_json(preview)
        else:
            out.print(f"{preview.count} events in PostHog; nothing was started")
        return ExitCode.OK
    started = request(server, lambda client: client.start_backfill(new_backfill))
    return _print(started if detach else _watch(server, started), server, detached=detach)


@app.command
def status(*, server: Server = DEFAULT_SERVER) -> int:
    """List the latest backfills, newest first.

    Parameters
    ----------
    server
        The server, and the output format.
    """
    latest = request(server, lambda client: client.backfills())
    if server.json:
        print_json(latest)
        return ExitCode.OK
    for backfill in latest.backfills:
        report.show(backfill)
    if not latest.backfills:
        out.print("no backfill was started yet")
    return ExitCode.OK


@app.command
def cancel(*, server: Server = DEFAULT_SERVER) -> int:
    """Cancel the running backfill; events that it has imported stay.

    Parameters
    ----------
    server
        The server, and the output format.
    """

    def cancel_running(client: AdminClient) -> Backfill | None:
        running = _running(client.backfills())
        return None if running is None else client.cancel_backfill(running.id)

    cancelled = request(server, cancel_running)
    if cancelled is None:
        raise CommandError(
            "no backfill is running", "`hogsend backfill status` lists the latest ones"
        )
    if server.json:
        print_json(cancelled)
    else:
        report.show(cancelled)
    return ExitCode.OK


def _running(latest: BackfillList) -> Backfill | None:
    return next((one for one in latest.backfills if one.state == "running"), None)


def _watch(server: Server, started: Backfill) -> Backfill:
    with AdminClient(resolve(server.url, server.admin_key)) as client:
        try:
            return follow(client, started)
        except KeyboardInterrupt:
            print_hanging(
                err,
                ("note: ", "bold yellow"),
                "the backfill continues on the server; `hogsend backfill status` shows it, and "
                "`hogsend backfill cancel` cancels it",
            )
            raise


def _print(backfill: Backfill, server: Server, *, detached: bool) -> int:
    if server.json:
        print_json(backfill)
    else:
        report.show(backfill)
    is_success = backfill.state == "finished" or (detached and backfill.state == "running")
    return ExitCode.OK if is_success else ExitCode.FAILED
