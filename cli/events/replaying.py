"""Requests a replay batch by batch, and shows its progress."""

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
"""Growing pauses between requests that replayed nothing: each adds an entry to the audit trail."""


class ReplayProgress(msgspec.Struct, rename="camel"):
    """The progress of a replay to a durable consumer: the JSON document of `events replay`."""

    to: str
    dry_run: bool = False
    id: str = ""
    """Value of the header `Hogsend-Replay` of the replayed events."""
    count: int = 0
    left_out: int = 0
    waiting: int = 0
    """Replayed events that the consumer has not acknowledged."""
    after: str | None = None
    """Position to continue at; None once all events are replayed."""


def replay_all(
    client: AdminClient,
    replay: EventReplay,
    state: ReplayProgress,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Request batches until all events are replayed, and keep `state` up to date.

    If the server does not respond, the same batch is requested again, except for the first batch of
    a new replay. Events that are replayed twice have the same message id.

    Raises:
        AdminError: the server refuses, or does not respond to the first request of a new replay.
    """
    state.after = replay.after
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(f"{replay.to}: starting")
        idle_requests = 0
        while True:
            try:
                batch = client.replay_events(msgspec.structs.replace(replay, after=state.after))
            except AdminError as error:
                if state.after is None or (error.status is not None and error.status < 500):  # noqa: PLR2004
                    raise
                text = f"{replay.to}: {state.count} events, waiting for the server: {error.problem}"
                progress.update(task, description=printable(text))
                pause(PAUSE_SECONDS[min(idle_requests, len(PAUSE_SECONDS) - 1)])
                idle_requests += 1
                continue
            state.id, state.after, state.waiting = batch.id, batch.after, batch.waiting
            state.count += batch.count
            state.left_out += batch.left_out
            if batch.after is None:
                return
            text = f"{replay.to}: {state.count} events"
            if not batch.count and batch.waiting:
                text += f", waiting for the subscriber: {batch.waiting} unacknowledged"
            progress.update(task, description=printable(text))
            if batch.count or not batch.waiting:
                idle_requests = 0
                continue
            pause(PAUSE_SECONDS[min(idle_requests, len(PAUSE_SECONDS) - 1)])
            idle_requests += 1
