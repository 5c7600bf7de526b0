"""What JetStream says of a whole stream."""

from __future__ import annotations

from nats.js.api import StreamState

from hogsend.contract.consumers import API
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from services.ingest.jetstream_errors import available


async def stream_state(
    connection: Connection, stream: StreamName, subjects: str | None = None
) -> StreamState:
    """Say what a stream holds, and how much of it is on each of `subjects`, which has a wildcard.

    Raises:
        Forbidden: NATS does not let this user ask.
        Unavailable: JetStream does not answer, or refuses.
    """
    with available(connection):
        asking = connection.js.stream_info(stream, subjects)
        return (await connection.wait_unless_refused(f"{API}.STREAM.INFO.{stream}", asking)).state
