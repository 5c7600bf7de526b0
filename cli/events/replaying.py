"""Asks for one part of a replay after the other, and shows how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.admin.messages import EventReplay
from cli.console import err
from cli.redaction import printable

PAUSE_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between parts that brought nothing, one after the other: each is an entry of the audit trail."""


class Replayed(msgspec.Struct, rename="camel"):
    """What a durable was given so far, and what `--json` prints."""

    to: str
    dry_run: bool = False
    id: str = ""
    """What its events carry as the header `Hogsend-Replay`."""
    count: int = 0
    left_out: int = 0
    waiting: int = 0
    """Events it was given and has not acknowledged."""
    after: str | None = None
    """Where to go on; None when it was given all."""


def replayed(
    client: AdminClient,
    wanted: EventReplay,
    so_far: Replayed,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Ask until there is nothing more, and keep `so_far` up to date.

    A server that is down after the first part is asked for the same part again: events that were
    given twice have the same message id.

    Raises:
        AdminError: the server refuses, or does not answer the first time.
    """
    so_far.after = wanted.after
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(f"{wanted.to}: begins")
        idle = 0
        while True:
            part_wanted = msgspec.structs.replace(wanted, after=so_far.after)
            try:
                part = client.replay_events(part_wanted)
            except AdminError as error:
                if so_far.after is None or (error.status is not None and error.status < 500):  # noqa: PLR2004
                    raise
                text = f"{wanted.to}: {so_far.count}, waits for the server: {error.problem}"
                progress.update(task, description=printable(text))
                pause(PAUSE_SECONDS[min(idle, len(PAUSE_SECONDS) - 1)])
                idle += 1
                continue
            so_far.id, so_far.after, so_far.waiting = part.id, part.after, part.waiting
            so_far.count += part.count
            so_far.left_out += part.left_out
            if part.after is None:
                return
            text = f"{wanted.to}: {so_far.count} events"
            if not part.count and part.waiting:
                text += f", waits until it has taken some of {part.waiting}"
            progress.update(task, description=printable(text))
            if part.count or not part.waiting:
                idle = 0
                continue
            pause(PAUSE_SECONDS[min(idle, len(PAUSE_SECONDS) - 1)])
            idle += 1
