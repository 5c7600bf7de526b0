"""Reads events from NATS as they arrive, as a service of one's own would."""

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
    """Show events from now on, until Ctrl-C.

    Args:
        address: of NATS, with a user that may read events.
        event: the only name that is wanted; all without one.
        show: is given each of them.

    Raises:
        CommandError: NATS is not there, or does not let them be read.
    """

    async def run() -> None:
        async with hogsend.connect(address) as client:
            print_hanging(err, ("", "dim"), "following; Ctrl-C ends it")
            async for found in client.events(event, undecodable=_say_left_out):
                show(found)

    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run())
    except HogsendError as error:
        raise CommandError(
            str(error), "check that NATS runs, and that NATS_URL names a user that may read events"
        ) from error


def _say_left_out(error: CannotDecode) -> None:
    print_hanging(err, ("", "yellow"), f"left out: {error}")
