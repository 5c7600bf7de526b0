"""Whole messages of a stream: read in batches, without a consumer, and deleted one by one.

Reading is JetStream's batched direct get (NATS ADR-31, nats-server 2.11).
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
from hogsend.transport.connection import MANAGEMENT_SECONDS, Connection
from hogsend.transport.jetstream_error import JetStreamError
from services.ingest.jetstream_errors import available

BATCH = 256
"""Most messages that are read at a time."""
BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes that are read at a time; JetStream returns one message more than fits."""

ANSWER_SECONDS = 5.0
_END_OF_BATCH = {"204", "404"}
_NO_MESSAGE = {10043, 10057}
"""JetStream's codes for deleting a sequence that is deleted already, and one that never was."""


class _Deletion(msgspec.Struct, frozen=True):
    success: bool = False
    error: JetStreamError | None = None


class StoredMessage(NamedTuple):
    """A message of a stream."""

    sequence: int
    at: datetime
    """When the stream took it."""
    body: bytes
    headers: Mapping[str, str] = {}

    @property
    def subject(self) -> str:
        """What it was published on; empty where JetStream does not say."""
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
        connection: of a user who may read the stream directly.
        stream: where the messages are.
        first: sequence to begin at.
        since: instead of `first`, the time to begin at.
        subject: read only what is on it; it may have wildcards.
        most: how many.

    Raises:
        Forbidden: NATS does not let this user read the stream.
        Unavailable: JetStream does not answer.
    """
    wanted: dict[str, int | str] = {"batch": most, "max_bytes": BATCH_BYTES}
    if first is not None:
        wanted["seq"] = first
    if since is not None:
        wanted["start_time"] = format_time(since)
    if subject is not None:
        wanted["next_by_subj"] = subject
    with available(connection):
        return await _direct_get(connection, stream, json.dumps(wanted).encode())


async def delete_message(connection: Connection, stream: StreamName, sequence: int) -> bool:
    """Delete a message, its bytes overwritten; False if it was deleted before.

    Raises:
        Forbidden: NATS does not let this user delete it.
        Unavailable: JetStream does not answer; the message may be deleted all the same.
    """
    subject, wanted = f"{API}.STREAM.MSG.DELETE.{stream}", json.dumps({"seq": sequence})
    with available(connection):
        # Not nats-py's: a refusal would be waited for in vain.
        answer = await connection.request_raw(subject, wanted.encode(), seconds=MANAGEMENT_SECONDS)
    done = msgspec.json.decode(answer.data, type=_Deletion)
    if done.error is not None and done.error.err_code not in _NO_MESSAGE:
        raise Unavailable(f"JetStream refuses: {done.error.description}")
    return done.success


async def _direct_get(
    connection: Connection, stream: StreamName, request: bytes
) -> list[StoredMessage]:
    client, subject = connection.client, f"{API}.DIRECT.GET.{stream}"
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    found: list[StoredMessage] = []

    async def first() -> Msg:
        await client.publish(subject, request, reply=inbox)
        return await subscription.next_msg(ANSWER_SECONDS)

    try:
        message = await connection.wait_unless_refused(subject, first())
        while True:
            headers = message.headers or {}
            if "Nats-Sequence" in headers:
                at = read_moment(headers.get("Nats-Time-Stamp")) or datetime.now(UTC)
                found.append(
                    StoredMessage(int(headers["Nats-Sequence"]), at, message.data, headers)
                )
            elif headers.get("Status") in _END_OF_BATCH:
                return found
            else:
                raise Unavailable(f"the stream {stream} does not answer")
            message = await subscription.next_msg(ANSWER_SECONDS)
    finally:
        await subscription.unsubscribe()
