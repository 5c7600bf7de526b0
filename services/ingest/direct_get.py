"""Reading messages of a stream without a consumer: batched direct gets (NATS ADR-31)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from services.ingest.sources.posthog import parse_time

ANSWER_SECONDS = 5.0
_ENDS = {"204", "404"}


class Stored(NamedTuple):
    """A message of a stream."""

    sequence: int
    at: datetime
    """When the stream took it."""
    body: bytes
    headers: Mapping[str, str] = {}


async def read_batch(
    connection: Connection, stream: StreamName, wanted: Mapping[str, int | str]
) -> list[Stored]:
    """Read messages, oldest first; none where there are no more.

    Args:
        connection: of a user who may read them so.
        stream: where they are.
        wanted: as JetStream's API has it: `seq` or `start_time`, `batch`, `max_bytes`, ...

    Raises:
        Unavailable: the stream answers something else.
        nats.errors.Error: it does not answer in time.
    """
    client = connection.client
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    found: list[Stored] = []
    try:
        await client.publish(
            f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode(), reply=inbox
        )
        while True:
            message = await subscription.next_msg(ANSWER_SECONDS)
            headers = message.headers or {}
            if "Nats-Sequence" in headers:
                at = parse_time(headers.get("Nats-Time-Stamp")) or datetime.now(UTC)
                found.append(Stored(int(headers["Nats-Sequence"]), at, message.data, headers))
            elif headers.get("Status") in _ENDS:
                return found
            else:
                raise Unavailable(f"the stream {stream} does not answer")
    finally:
        await subscription.unsubscribe()
