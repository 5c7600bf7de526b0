"""The first connection to NATS: awaited for a while, and why there is none in words."""

from __future__ import annotations

import asyncio
import logging

from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.transport.addresses import split_credentials, without_password
from hogsend.transport.connection import Connection

_REFUSED = "authorization violation"
"""What a NATS server says about credentials it does not know."""
_OTHERWISE = ": the password in NATS_URL is another one, or there is no such user"
_WITHOUT = (
    " without a password: set NATS_URL as in subscriber.env or app.env, for the stack of `hogsend "
    "up` with `set -a; . .hogsend/app.env; set +a`"
)


class ConnectionLog:
    """Logs what happens to a connection, and remembers the last error only."""

    def __init__(self, log: logging.Logger) -> None:
        """Log there."""
        self._log = log
        self.last_error = ""
        self.refused = asyncio.Event()
        """Set when the server has refused the credentials."""

    def __call__(self, what: str, detail: str) -> None:
        """Take note: it is the observer of a `Connection`."""
        if what == "error":
            self.last_error = detail
            if _REFUSED in detail.lower():
                self.refused.set()
            self._log.warning("NATS: %s", detail)
        else:
            self._log.info("NATS %s %s", what, detail)


async def open_within(seconds: float | None, connection: Connection, events: ConnectionLog) -> None:
    """Open a connection that `events` observes; one that was not opened is the caller's to close.

    Without `seconds` an answer is awaited without end, a refusal included.

    Raises:
        Forbidden: NATS refused the user or the password in the address.
        Unavailable: nothing answered at that address in time, or a server that is too old.
    """
    # It may be tried again, with another password at the server or in another event loop.
    events.refused = asyncio.Event()
    opening = asyncio.create_task(connection.open())
    refused = asyncio.create_task(events.refused.wait())
    try:
        await asyncio.wait({opening, refused}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            if problem := connection.version_problem:
                raise Unavailable(problem)
            return
    finally:
        refused.cancel()
        opening.cancel()
        # What it has opened by then can be closed.
        await asyncio.wait({opening})
    address = without_password(",".join(connection.addresses))
    if events.refused.is_set():
        # Waiting does not make a password right.
        _, _, password = split_credentials(connection.addresses)
        raise Forbidden(
            f"NATS at {address} refuses user {str(connection.user)!r}"
            + (_OTHERWISE if password else _WITHOUT)
        )
    raise Unavailable(
        f"cannot reach NATS at {address} ({events.last_error or 'no answer'}); is it running, and "
        "is NATS_URL right?"
    )
