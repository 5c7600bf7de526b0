"""Reads messages of a stream in batches, without a consumer, and deletes them one by one.

Reads are JetStream's batched direct gets (NATS ADR-31, nats-server 2.11).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from nats.aio.msg import Msg

from hogsend.contract.consumers import API
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import format_time
from hogsend.contract.moments import read_moment
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from hogsend.transport.jetstream import MANAGEMENT_SECONDS
from hogsend.transport.jetstream_error import JetStreamError
from services.ingest.jetstream_errors import available

BATCH = 256
"""Most messages that are read at a time."""
BATCH_BYTES = 4 * 1024 * 1024
"""Bytes after which JetStream ends a batch; the message that exceeds them is in the batch."""

REPLY_SECONDS = 5.0
_END_OF_BATCH = {"204", "404"}
_NO_MESSAGE = {10043, 10057}
"""JetStream's error codes for a message that is deleted already, and for one that never existed."""


class _Deletion(msgspec.Struct, frozen=True):
    success: bool = False
    error: JetStreamError | None = None


class StoredMessage(NamedTuple):
    """A message of a stream."""

    sequence: int
    at: datetime
    """When the stream stored it."""
    body: bytes
    headers: Mapping[str, str] = {}

    @property
    def subject(self) -> str:
        """The subject it was published on; empty if JetStream does not return it."""
        return self.headers.get("Nats-Subject", "")


async def read_batch(
    connection: Connection,
    stream: StreamName,
    *,
    first: int | None = None,
    since: datetime | None = None,
    subject: str | None = None,
    most: int = BATCH,
) -> list[StoredMessage]:
    """Read messages, oldest first; empty when there are no more.

    Args:
        connection: of a NATS user who may use direct gets on the stream.
        stream: the stream.
        first: sequence to start with.
        since: time to start with, instead of `first`.
        subject: read only messages on this subject, which may have wildcards.
        most: most messages.

    Raises:
        Forbidden: this NATS user may not read the stream.
        Unavailable: JetStream does not answer.
    """
    request: dict[str, int | str] = {"batch": most, "max_bytes": BATCH_BYTES}
    if first is not None:
        request["seq"] = first
    if since is not None:
        request["start_time"] = format_time(since)
    if subject is not None:
        request["next_by_subj"] = subject
    with available(connection):
        return await _direct_get(connection, stream, json.dumps(request).encode())


async def delete_message(connection: Connection, stream: StreamName, sequence: int) -> bool:
    """Delete a message and overwrite its bytes; returns False if it was deleted before.

    Raises:
        Forbidden: this NATS user may not delete messages of the stream.
        Unavailable: JetStream does not answer; the message may be deleted nevertheless.
    """
    subject, request = f"{API}.STREAM.MSG.DELETE.{stream}", json.dumps({"seq": sequence})
    with available(connection):
        # Not nats-py's `delete_msg`: it would time out where NATS refuses the request.
        reply = await connection.request_raw(subject, request.encode(), seconds=MANAGEMENT_SECONDS)
    result = msgspec.json.decode(reply.data, type=_Deletion)
    if result.error is not None and result.error.err_code not in _NO_MESSAGE:
        raise Unavailable(f"JetStream refuses: {result.error.description}")
    return result.success


async def _direct_get(
    connection: Connection, stream: StreamName, request: bytes
) -> list[StoredMessage]:
    client, subject = connection.client, f"{API}.DIRECT.GET.{stream}"
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    messages: list[StoredMessage] = []

    async def first() -> Msg:
        await client.publish(subject, request, reply=inbox)
        return await subscription.next_msg(REPLY_SECONDS)

    try:
        message = await connection.refusals.wait_unless_refused(subject, first())
        while True:
            headers = message.headers or {}
            if "Nats-Sequence" in headers:
                at = read_moment(headers.get("Nats-Time-Stamp")) or datetime.now(UTC)
                messages.append(
                    StoredMessage(int(headers["Nats-Sequence"]), at, message.data, headers)
                )
            elif headers.get("Status") in _END_OF_BATCH:
                return messages
            else:
                raise Unavailable(f"the stream {stream} does not answer")
            message = await subscription.next_msg(REPLY_SECONDS)
    finally:
        await subscription.unsubscribe()
