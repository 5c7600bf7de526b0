"""Scatter-gather: one request that every subscriber of a subject replies to."""

from __future__ import annotations

import asyncio

from nats.aio.msg import Msg

from hogsend.contract.errors import Unavailable
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.pending_bytes import pending_bytes_limit


async def request_many(connection: Connection, subject: str, *, seconds: float) -> list[bytes]:
    """Send one request to every subscriber of `subject`, and collect replies for `seconds`.

    Raises:
        Unavailable: NATS cannot be reached.
        Forbidden: this NATS user may not send that request.
    """
    replies: list[bytes] = []

    async def on_reply(message: Msg) -> None:
        # Without a subscriber, the server replies with a status and no body.
        if message.data:
            replies.append(message.data)

    client = connection.client
    inbox = client.new_inbox()
    unsubscribe = await connection.listen(
        inbox, on_reply, pending_bytes=pending_bytes_limit(client)
    )
    refusal = connection.refusals.of(subject)
    try:
        await client.publish(subject, b"", reply=inbox)
        await asyncio.wait({refusal}, timeout=seconds)
    except UNREACHABLE as error:
        raise Unavailable("NATS did not accept the request") from error
    finally:
        await unsubscribe()
    if refusal.done():
        raise connection.refusals.error(subject)
    return replies
