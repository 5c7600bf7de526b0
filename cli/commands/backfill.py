"""`hogsend backfill`: bring events from before the connection; see `docs/backfill.md`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from cli.admin.client import AdminClient
from cli.admin.messages import NewBackfill
from cli.asking import DEFAULT_SERVER, Server, ask, moment
from cli.backfill import report
from cli.backfill.progress import follow
from cli.console import err, out, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.terminal import print_hanging
from hogsend.contract.backfills import Backfill, BackfillList

app = App(name="backfill", help="Bring events from before the connection.")


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
    """Bring events that PostHog has and that are not here, in order of time.

    The server does it: Ctrl-C only ends the watching, and the same command goes on with a backfill
    that did not finish. Exits with 1 unless it finished.

    Parameters
    ----------
    since
        Events that happened then or later: 2026-01-01 (UTC), or 2026-01-01T00:00:00Z.
    until
        Only events that happened before; by default now.
    event
        Only those of this name; can be given several times.
    announce
        Tell subscribers of events that are new here; without it they are only stored.
    dry_run
        Only count them.
    detach
        Start it without following its progress.
    server
        The server, and the output format.
    """
    wanted = NewBackfill(
        since=moment(since),
        until=None if until is None else moment(until),
        events=sorted(set(event or [])),
        announce=announce,
    )
    if dry_run:
        counted = ask(server, lambda client: client.count_backfill(wanted))
        if server.json:
            print_json(counted)
        else:
            out.print(f"{counted.count} events in PostHog; nothing was started")
        return ExitCode.OK
    started = ask(server, lambda client: client.start_backfill(wanted))
    return _print(started if detach else _watched(server, started), server, detached=detach)


@app.command
def status(*, server: Server = DEFAULT_SERVER) -> int:
    """List the latest backfills, the latest first.

    Parameters
    ----------
    server
        The server, and the output format.
    """
    found = ask(server, lambda client: client.backfills())
    if server.json:
        print_json(found)
        return ExitCode.OK
    for one in found.backfills:
        report.show(one)
    if not found.backfills:
        out.print("no backfill was started yet")
    return ExitCode.OK


@app.command
def cancel(*, server: Server = DEFAULT_SERVER) -> int:
    """Stop the backfill that runs; what it brought stays.

    Parameters
    ----------
    server
        The server, and the output format.
    """

    def stop(client: AdminClient) -> Backfill | None:
        running = _running(client.backfills())
        return None if running is None else client.cancel_backfill(running.id)

    stopped = ask(server, stop)
    if stopped is None:
        raise CommandError("no backfill runs", "`hogsend backfill status` shows those that ended")
    if server.json:
        print_json(stopped)
    else:
        report.show(stopped)
    return ExitCode.OK


def _running(found: BackfillList) -> Backfill | None:
    return next((one for one in found.backfills if one.state == "running"), None)


def _watched(server: Server, started: Backfill) -> Backfill:
    with AdminClient(resolve(server.url, server.admin_key)) as client:
        try:
            return follow(client, started)
        except KeyboardInterrupt:
            print_hanging(
                err,
                ("note: ", "bold yellow"),
                "the backfill goes on; `hogsend backfill status` shows it, and "
                "`hogsend backfill cancel` stops it",
            )
            raise


def _print(found: Backfill, server: Server, *, detached: bool) -> int:
    if server.json:
        print_json(found)
    else:
        report.show(found)
    is_well = found.state == "finished" or (detached and found.state == "running")
    return ExitCode.OK if is_well else ExitCode.FAILED
