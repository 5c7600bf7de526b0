"""Replays: stored events that are delivered again to one durable; see `docs/replay.md`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message
from hogsend.contract.events import Event
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class ReplayEvents(Message, frozen=True, kw_only=True):
    """Deliver the events of a time span again to one durable consumer.

    One request replays a part of them. Repeat it with `after` of the reply until that is None.
    """

    durable: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    """A durable consumer on the stream EVENTS."""
    since: Moment
    """Only events that happened at this time or later."""
    until: Moment | None = None
    """Only events that happened before this time; None means when the replay starts."""
    after: str | None = None
    """Cursor: `after` of the previous reply; None starts a replay."""
    dry_run: bool = False
    """Only count the events."""


class EventsReplayed(Message, frozen=True, kw_only=True):
    """The result of one part of a replay."""

    id: str
    """Id of the replay, which its events carry in the header `Hogsend-Replay`."""
    count: int
    """Number of events in this part, which were published to the durable or only counted."""
    left_out: int = 0
    """Number of events that were skipped: with a replay's headers they are too large for NATS."""
    waiting: int = 0
    """Number of replayed events that the durable has not acknowledged, earlier replays included."""
    until: Moment
    """End of the replayed time span: only events that happened before are replayed."""
    after: str | None = None
    """`after` of the next request; None if this was the last part."""


EVENT_REPLAYED = Channel(
    subject=f"{subjects.REPLAYS}.*",
    parameter="digest",
    stream=StreamName.EVENTS,
    message=Event,
    publishers=(User.INGEST,),
    # The durable receives these events. Nothing else may subscribe to the subject.
    subscribers=(),
    summary="An event that is replayed to one durable; `*` is a digest of the durable's name.",
)
INGEST_REPLAY_EVENTS = Endpoint(
    service=User.INGEST,
    verb="replay-events",
    request=ReplayEvents,
    reply=EventsReplayed,
    callers=(User.GATEWAY,),
    summary="Deliver stored events again to one durable.",
    deadline=30.0,
    changes=True,
    resource="durable",
)
