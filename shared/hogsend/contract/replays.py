"""Replays: events that are delivered to one durable again; see `docs/replay.md`."""

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
    """Deliver events that happened in a span to one durable again, a part at a time."""

    durable: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    """A durable consumer on the stream EVENTS."""
    since: Moment
    """Events that happened then or later."""
    until: Moment | None = None
    """Only events that happened before; None is when the replay begins."""
    after: str | None = None
    """`after` of the part before this one; None begins a replay."""
    dry_run: bool = False
    """Only count."""


class EventsReplayed(Message, frozen=True, kw_only=True):
    """What one part of a replay did."""

    id: str
    """The replay's id, which its events carry as the header `Hogsend-Replay`."""
    count: int
    """Events of this part: given to the durable, or counted."""
    left_out: int = 0
    """Events of this part that are too large for the bus with the headers of a replay."""
    waiting: int = 0
    """Events of this replay, and of earlier ones, that the durable has not acknowledged."""
    until: Moment
    after: str | None = None
    """Ask for the next part with it; None when this was the last."""


EVENT_REPLAYED = Channel(
    subject=f"{subjects.REPLAYS}.*",
    parameter="digest",
    stream=StreamName.EVENTS,
    message=Event,
    publishers=(User.INGEST,),
    # It comes through the durable: there are no subscribers to the subject itself.
    subscribers=(),
    summary="An event that one durable gets again; the last token is a digest of its name.",
)
INGEST_REPLAY_EVENTS = Endpoint(
    service=User.INGEST,
    verb="replay-events",
    request=ReplayEvents,
    reply=EventsReplayed,
    callers=(User.GATEWAY,),
    summary="Deliver stored events to one durable again.",
    deadline=30.0,
    changes=True,
    resource="durable",
)
