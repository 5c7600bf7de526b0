"""`/v1/admin/events`: stored events (correction C11), and their delivery to one durable again."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from hogsend.contract.events import INGEST_EVENTS, EventPage, ListEvents
from hogsend.contract.replays import INGEST_REPLAY_EVENTS, EventsReplayed, ReplayEvents
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_only, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Before, Limit, Offset
from services.gateway.timestamps import Timestamp, parse_timestamp

Filter = Annotated[str | None, QueryParameter(max_length=4096)]
EARLIEST = QueryParameter(
    name="from", max_length=64, description="Events that happened then or later: ISO 8601."
)
LATEST = QueryParameter(
    name="to", max_length=64, description="Events that happened then or earlier: ISO 8601."
)


class EventReplay(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Which events a durable gets again.

    An unknown key is refused: ignoring a misspelt one would deliver more than was meant.
    """

    to: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    """A durable consumer on the stream EVENTS."""
    since: Timestamp
    """Events that happened then or later."""
    until: Timestamp | None = None
    """Only events that happened before; now when it is missing."""
    after: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """`after` of the answer before this one, to go on; without it a replay begins."""
    dry_run: bool = False
    """Only count them."""


@get(
    "/v1/admin/events",
    guards=[admin_or_reader],
    operation_id="listEvents",
    summary="List stored events",
    tags=["Admin"],
    security=ADMIN_SECURITY + READ_KEY,
    responses=admin_errors(400),
)
async def list_events(  # noqa: PLR0917 - one parameter a query key
    bus: NamedDependency[Connection],
    event: Filter = None,
    user_id: Annotated[str | None, QueryParameter(name="userId", max_length=4096)] = None,
    source: Filter = None,
    earliest: Annotated[str | None, EARLIEST] = None,
    latest: Annotated[str | None, LATEST] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
    before: Before = None,
    id: Filter = None,
) -> EventPage:
    """List stored events, the latest that happened first; filters match exactly.

    A page is shorter than `limit` where no more fits into an answer; `offset` goes on with the
    number of its entries.

    `nextBefore` is the `before` of the next page, and null on the last. `total` is exact up to
    10,000, with filters up to 1,000; beyond it is an estimate, and `totalEstimated` says so.

    With several filters a page looks at 4,000 events that one of them finds. One that ended before
    it was full, perhaps with none, says in `searchedTo` how far back it looked: go on with
    `nextBefore`, or narrow the time with `from` and `to`.
    """
    wanted = ListEvents(
        event=event,
        user_id=user_id,
        source=source,
        occurred_from=parse_timestamp(earliest, "from") if earliest is not None else None,
        occurred_to=parse_timestamp(latest, "to") if latest is not None else None,
        limit=limit,
        offset=offset,
        before=before,
        id=id,
    )
    return await bus.request(INGEST_EVENTS, wanted)


@post(
    "/v1/admin/events/replay",
    guards=[admin_only],
    status_code=200,
    operation_id="replayEvents",
    summary="Deliver events to one durable again",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses=admin_errors(400, 404, 413),
)
async def replay_events(
    data: JSONBody[EventReplay], bus: NamedDependency[Connection]
) -> EventsReplayed:
    """Deliver events of a span to one subscriber again, a part at a time.

    Ask again with `after` until it is null. A part ends after some seconds, or when 10,000 events
    wait for the durable.
    """
    wanted = ReplayEvents(
        durable=data.to,
        since=parse_timestamp(data.since, "since"),
        until=None if data.until is None else parse_timestamp(data.until, "until"),
        after=data.after,
        dry_run=data.dry_run,
    )
    return await bus.request(INGEST_REPLAY_EVENTS, wanted)
