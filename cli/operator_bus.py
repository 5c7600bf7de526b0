"""NATS as its operator: for what only that user may do."""

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

ANSWER_SECONDS = 5.0

_FIX = "start the stack, or set NATS_URL as in operator.env"


@asynccontextmanager
async def operator_bus(url: str | None) -> AsyncIterator[Connection]:
    """Connect, and see that the address is the operator's.

    Raises:
        CommandError: it is not, or NATS or its JetStream does not answer.
    """
    try:
        async with hogsend.connect(url, user=User.OPERATOR) as bus:
            await _be_answered(bus.connection)
            yield bus.connection
    except HogsendError as error:
        raise CommandError(str(error), _FIX) from error


async def _be_answered(connection: Connection) -> None:
    # Only the operator may ask that. Without asking, another user would wait for the first answer.
    subject = f"$JS.API.STREAM.INFO.{StreamName.DEADLETTER}"
    try:
        await connection.request_raw(subject, b"", seconds=ANSWER_SECONDS)
    except UNREACHABLE as error:
        raise CommandError("JetStream does not answer", _FIX) from error
