"""Subscribes to events on NATS, as a service of the operator's does."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import hogsend
from cli.console import err, print_hanging
from cli.errors import CommandError
from hogsend import CannotDecode
from hogsend.contract.errors import HogsendError
from hogsend.contract.events import Event


def follow(address: str, event: str | None, show: Callable[[Event], None]) -> None:
    """Show the events that arrive from now on, until Ctrl-C.

    Args:
        address: NATS URL with a user that may read events.
        event: name of the events to show; None for all.
        show: called with each event.

    Raises:
        CommandError: NATS cannot be reached, or the user may not read events.
    """

    async def run() -> None:
        async with hogsend.connect(address) as client:
            print_hanging(err, ("", "dim"), "waiting for events; Ctrl-C ends it")
            with _stopping_at_closed_pipe(client):
                async for received in client.events(event, undecodable=_report_skipped):
                    show(received)
            raise BrokenPipeError

    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run())
    except HogsendError as error:
        raise CommandError(
            str(error), "check that NATS runs, and that NATS_URL has a user that may read events"
        ) from error


@contextmanager
def _stopping_at_closed_pipe(client: hogsend.Client) -> Iterator[None]:
    """Stop the client when the program that reads stdout ends, as `head` does.

    Otherwise that would be noticed only when the next event is written, which may take hours.
    """
    loop, output = asyncio.get_running_loop(), sys.stdout.fileno()
    # The writing end of a pipe becomes readable once the reading end is closed. A terminal is
    # readable when a key is pressed, and a file cannot be watched.
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        yield
        return
    loop.add_reader(output, client.stop)
    try:
        yield
    finally:
        loop.remove_reader(output)


def _report_skipped(error: CannotDecode) -> None:
    print_hanging(err, ("", "yellow"), f"skipped: {error}")
