"""Reads the state of a stream."""

from __future__ import annotations

from nats.js.api import StreamState

from hogsend.contract.consumers import API
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from services.ingest.jetstream_errors import available


async def stream_state(
    connection: Connection, stream: StreamName, subjects: str | None = None
) -> StreamState:
    """Return the state of a stream.

    Args:
        connection: of a NATS user who may read it.
        stream: the stream.
        subjects: a subject, which may have wildcards: messages are counted by each subject that it
            matches.

    Raises:
        Forbidden: this NATS user may not read the stream's state.
        Unavailable: JetStream does not answer, or refuses.
    """
    with available(connection):
        request = connection.js.stream_info(stream, subjects)
        info = await connection.refusals.wait_unless_refused(f"{API}.STREAM.INFO.{stream}", request)
        return info.state
