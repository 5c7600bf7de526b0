"""Engagement as anybody may publish it on `hogsend.engagement.<type>`.

The library's `Bus.engagement.report` fills everything in; with another NATS client only `data` is
needed, and what is left out is known from the message (`docs/engagement.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from hogsend import envelope, subjects
from hogsend.messages import Engagement, Properties


class MalformedEngagement(ValueError):
    """No engagement, and never will be."""


class _Reported(msgspec.Struct, frozen=True):
    data: Properties
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    type: str | None = None
    timestamp: datetime | None = None


_decode = msgspec.json.Decoder(_Reported).decode


def read_engagement(
    subject: str, headers: Mapping[str, str], body: bytes, sequence: int, time: datetime
) -> Engagement:
    """Read a message of the engagement stream; every reader makes the same of it.

    Args:
        subject: what it was published on; says the type.
        headers: its headers; the message id stands in for a missing `id`.
        body: JSON with `data`, and perhaps `id`, `type` and `timestamp`.
        sequence: its position in the stream; stands in for a missing message id.
        time: when the stream took it; stands in for a missing `timestamp`.

    Raises:
        MalformedEngagement: it cannot be read, or it contradicts its subject.
    """
    try:
        reported = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEngagement(f"{type(error).__name__}: {error}") from error
    named = subject.removeprefix(f"{subjects.ENGAGEMENT}.")
    if reported.type not in {None, named}:
        raise MalformedEngagement(f"type {reported.type!r} on the subject of {named!r}")
    timestamp = reported.timestamp or time
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    # Ids from the bus itself are the same for all who read the message, and after a replay.
    id = reported.id or envelope.message_id(headers) or f"ENGAGEMENT:{sequence}"
    return Engagement(id=id, type=named, timestamp=timestamp, data=reported.data)
