"""A connection to NATS as its operator, for actions that only this NATS user may perform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hogsend
from cli.errors import CommandError
from hogsend.contract.errors import HogsendError
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE

REPLY_SECONDS = 5.0

_FIX = "start the stack, or set NATS_URL to the one in operator.env"


@asynccontextmanager
async def operator_bus(url: str | None) -> AsyncIterator[Connection]:
    """Connect as the operator.

    Args:
        url: NATS URL with the operator's user; None for nats-py's default address.

    Raises:
        CommandError: NATS or JetStream does not reply, or the user is not the operator.
    """
    try:
        async with hogsend.connect(url, user=User.OPERATOR) as bus:
            await _require_operator(bus.connection)
            yield bus.connection
    except HogsendError as error:
        raise CommandError(str(error), _FIX) from error


async def _require_operator(connection: Connection) -> None:
    # Only the operator may send this request. A refusal of the command's own requests would be
    # reported as a JetStream that does not reply.
    subject = f"$JS.API.STREAM.INFO.{StreamName.DEADLETTER}"
    try:
        await connection.request_raw(subject, b"", seconds=REPLY_SECONDS)
    except UNREACHABLE as error:
        raise CommandError("JetStream does not reply", _FIX) from error
