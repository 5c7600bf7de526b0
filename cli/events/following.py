"""Subscribes to events on NATS, as a service of the operator's does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import hogsend
from cli.console import err
from cli.errors import CommandError
from cli.terminal import print_hanging
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
            async for received in client.events(event, undecodable=_report_skipped):
                show(received)

    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run())
    except HogsendError as error:
        raise CommandError(
            str(error), "check that NATS runs, and that NATS_URL has a user that may read events"
        ) from error


def _report_skipped(error: CannotDecode) -> None:
    print_hanging(err, ("", "yellow"), f"skipped: {error}")
