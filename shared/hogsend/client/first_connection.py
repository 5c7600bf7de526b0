"""The first connection to NATS: limits the wait for it, and explains why it failed."""

from __future__ import annotations

import asyncio
import logging

from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.transport.addresses import split_credentials, without_password
from hogsend.transport.connection import Connection

_REFUSED = "authorization violation"
"""Error text of a NATS server for invalid credentials."""
_WRONG_LOGIN = ": the password in NATS_URL is another one, or there is no such user"
_INCOMPLETE_LOGIN = (
    " without a password: set NATS_URL as in subscriber.env or app.env, for the stack of `hogsend "
    "up` with `set -a; . .hogsend/app.env; set +a`"
)


class ConnectionLog:
    """Logs the events of a connection, and keeps its last error."""

    def __init__(self, log: logging.Logger) -> None:
        """Log to `log`."""
        self._log = log
        self.last_error = ""
        self.refused = asyncio.Event()
        """Set when the server has refused the credentials."""

    def __call__(self, event: str, detail: str) -> None:
        """Handle an event of a `Connection`, whose observer this is."""
        if event == "error":
            self.last_error = detail
            if _REFUSED in detail.lower():
                self.refused.set()
            self._log.warning("NATS: %s", detail)
        else:
            self._log.info("NATS %s %s", event, detail)


async def open_within(seconds: float | None, connection: Connection, events: ConnectionLog) -> None:
    """Open a connection whose observer is `events`. After an error the caller has to close it.

    With None for `seconds`, it waits without a limit for the server to respond.

    Raises:
        Forbidden: NATS refused the user or the password in the address.
        Unavailable: no server responded in time, or its version is not supported.
    """
    # A new event for each attempt: by then the server may know another password, and the event
    # loop may be another one.
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
        # Until the attempt has ended, the caller could not close what it opens.
        await asyncio.wait({opening})
    address = without_password(",".join(connection.addresses))
    if events.refused.is_set():
        # No retry: the same password would be refused again.
        _, _, password = split_credentials(connection.addresses)
        raise Forbidden(
            f"NATS at {address} refuses user {str(connection.user)!r}"
            + (_WRONG_LOGIN if password else _INCOMPLETE_LOGIN)
        )
    raise Unavailable(
        f"cannot reach NATS at {address} ({events.last_error or 'no answer'}); is it running, and "
        "is NATS_URL right?"
    )
