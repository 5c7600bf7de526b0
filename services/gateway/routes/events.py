"""`/v1/admin/events`: lists stored events (correction C11), and replays them to one durable."""

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

EVENT = QueryParameter(
    max_length=4096, description="Only events with this name, for example `signed_up`."
)
USER_ID = QueryParameter(
    name="userId",
    max_length=4096,
    description="Only events of this user id: PostHog's distinct id, in the same case.",
)
SOURCE = QueryParameter(
    max_length=4096, description="Only events that this product reported, for example `posthog`."
)
ID = QueryParameter(
    max_length=4096,
    description="Only events with this id, for example PostHog's event uuid. Several events may "
    "have it, of different sources or users.",
)
EARLIEST = QueryParameter(
    name="from",
    max_length=64,
    description="Only events that happened at this time or later (ISO 8601).",
)
LATEST = QueryParameter(
    name="to",
    max_length=64,
    description="Only events that happened at this time or earlier (ISO 8601).",
)


class EventReplay(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Which events to replay to a durable consumer.

    An unknown key is refused, because ignoring a misspelt key would deliver more than intended.
    """

    to: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    """Name of a durable consumer on the stream EVENTS."""
    since: Timestamp
    """Only events that happened at this time or later."""
    until: Timestamp | None = None
    """Only events that happened before this time; by default now."""
    after: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """`after` of the previous response, to continue a replay. Without it a new replay starts."""
    dry_run: bool = False
    """Only count the events."""


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
    event: Annotated[str | None, EVENT] = None,
    user_id: Annotated[str | None, USER_ID] = None,
    source: Annotated[str | None, SOURCE] = None,
    earliest: Annotated[str | None, EARLIEST] = None,
    latest: Annotated[str | None, LATEST] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
    before: Before = None,
    id: Annotated[str | None, ID] = None,
) -> EventPage:
    """List stored events, those that happened last first. Filters match exactly.

    A page may have fewer entries than `limit`, because the size of a response is limited. Add the
    number of its entries to `offset` for the next page.

    `nextBefore` is the value of `before` for the next page, and null on the last page. `total` is
    exact up to 10,000, or with filters up to 1,000; above that it is an estimate, and
    `totalEstimated` is true.

    With several filters, a page is searched in 4,000 events that match one of them. If the search
    ended before the page was full, the page may be empty, and `searchedTo` is the time up to which
    events were searched. Continue with `nextBefore`, or narrow the time with `from` and `to`.
    """
    query = ListEvents(
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
    return await bus.request(INGEST_EVENTS, query)


@post(
    "/v1/admin/events/replay",
    guards=[admin_only],
    status_code=200,
    operation_id="replayEvents",
    summary="Replay events to one durable",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses=admin_errors(400, 404, 413),
)
async def replay_events(
    data: JSONBody[EventReplay], bus: NamedDependency[Connection]
) -> EventsReplayed:
    """Replay the events of a time span to one subscriber, in parts.

    Repeat the request with `after` of the response until `after` is null. A part ends after some
    seconds, or when 10,000 events wait for the durable.
    """
    replay = ReplayEvents(
        durable=data.to,
        since=parse_timestamp(data.since, "since"),
        until=None if data.until is None else parse_timestamp(data.until, "until"),
        after=data.after,
        dry_run=data.dry_run,
    )
    return await bus.request(INGEST_REPLAY_EVENTS, replay)
