"""Follows a backfill until it ends, with a progress bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.backfill.report import status_line
from cli.console import err
from cli.errors import CommandError
from cli.redaction import printable
from hogsend.contract.backfills import Backfill

POLL_SECONDS = 1.0


def follow(
    client: AdminClient, started: Backfill, pause: Callable[[float], None] = time.sleep
) -> Backfill:
    """Poll a backfill until it ends, and return it.

    Polling continues while the server does not respond: the server continues the backfill when it
    is back.

    Raises:
        CommandError: the server refuses, or no longer lists the backfill.
    """
    backfill = started
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(status_line(backfill), total=max(backfill.total, backfill.read))
        while backfill.state == "running":
            pause(POLL_SECONDS)
            try:
                backfill = _fetch(client, started.id)
            except AdminError as error:
                if error.status is not None and error.status < 500:  # noqa: PLR2004
                    raise
                waiting = printable(f"waiting for the server: {error.problem}")
                progress.update(task, description=waiting)
                continue
            progress.update(
                task,
                description=status_line(backfill),
                completed=backfill.read,
                total=max(backfill.total, backfill.read),
            )
    return backfill


def _fetch(client: AdminClient, id: str) -> Backfill:
    for backfill in client.backfills().backfills:
        if backfill.id == id:
            return backfill
    raise CommandError("the server no longer lists this backfill", "start it again")
