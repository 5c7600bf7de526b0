"""Follows a backfill until it ends: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.backfill.report import line_of
from cli.console import err
from cli.errors import CommandError
from cli.redaction import printable
from hogsend.contract.backfills import Backfill

ASK_SECONDS = 1.0


def follow(
    client: AdminClient, started: Backfill, pause: Callable[[float], None] = time.sleep
) -> Backfill:
    """Return the backfill once it no longer runs.

    A server that does not answer is asked again: the backfill goes on by itself when it is back.

    Raises:
        CommandError: the server knows it no more.
    """
    found = started
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(line_of(found), total=max(found.total, found.read))
        while found.state == "running":
            pause(ASK_SECONDS)
            try:
                found = _one(client, started.id)
            except AdminError as error:
                if error.status is not None and error.status < 500:  # noqa: PLR2004
                    raise
                progress.update(task, description=_waits(error))
                continue
            total = max(found.total, found.read)
            progress.update(task, description=line_of(found), completed=found.read, total=total)
    return found


def _waits(error: AdminError) -> str:
    return printable(f"waits for the server: {error.problem}")


def _one(client: AdminClient, id: str) -> Backfill:
    for one in client.backfills().backfills:
        if one.id == id:
            return one
    raise CommandError("the server has forgotten this backfill", "start it again")
