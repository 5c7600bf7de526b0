"""`/api/projects/{id}/query/`: reads stored events with HogQL, for backfills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from hogsend.contract.backfills import PastEvent
from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
from hogsend.contract.moments import parse_moment
from hogsend.posthog.api.reading import mapping, sequence
from hogsend.posthog.api.transport import Transport
from hogsend.posthog.errors import PostHogError

_decode = decoder(dict[str, Any])

QUERY_SECONDS = 50.0
MAX_RESPONSE_BYTES = 32 * 1024 * 1024
"""Maximum size of a page of events, which are large and mostly text."""
SELECT = (
    "SELECT toString(uuid), event, distinct_id, timestamp, properties, person.properties "
    "FROM events"
)
COLUMNS = 6
ORDER = "ORDER BY timestamp ASC, toString(uuid) ASC"
EXCLUDED = (("$lib", "hogsend"), ("$is_identified", "false"), ("$process_person_profile", "false"))
"""Properties and values of excluded events.

Events that Hogsend captured are already stored here as they were reported. Events of anonymous
visitors are not delivered by the destination either.
"""


class EventRange(msgspec.Struct, frozen=True, kw_only=True):
    """Selects events, in order of time and uuid. Events of `EXCLUDED` are never selected."""

    since: datetime
    until: datetime
    """Only events before this time."""
    events: Sequence[str] = ()
    """Names of the events; all events if empty."""
    after: tuple[datetime, str] | None = None
    """Only events after this time and uuid, which are those of the last event read before. With an
    empty uuid, events at this time are included."""


class Page(msgspec.Struct, frozen=True):
    """Events in order of time and uuid. An empty page means that there are no more."""

    events: list[PastEvent]
    unreadable: int
    """Number of rows that cannot be read as events, for example without a time."""


class _HogQL(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    values: dict[str, str]
    kind: Literal["HogQLQuery"] = "HogQLQuery"


class _QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    query: _HogQL
    name: str = "hogsend backfill"
    refresh: str = "force_blocking"


class Queries:
    """Queries in one project. They require the scope `query:read`."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        self._transport = transport
        self.project = f"{transport.host}/project/{project_id}"
        """URL of the project in PostHog."""
        self._path = f"/api/projects/{quote(project_id, safe='')}/query/"

    async def count(self, selected: EventRange) -> int:
        """Count the selected events.

        Raises:
            PostHogError: PostHog refused, could not be reached, or its response has no rows.
        """
        rows = await self._rows("SELECT count() FROM events", selected, "LIMIT 1")
        count = sequence(rows[0])[0] if rows and sequence(rows[0]) else None
        if not isinstance(count, int):
            raise PostHogError("PostHog's answer to a query is not a number")
        return count

    async def page(self, selected: EventRange, limit: int) -> Page:
        """Read the next `limit` events. PostHog returns at most 50,000.

        Raises:
            PostHogResponseTooLarge: the response has more than `MAX_RESPONSE_BYTES`.
            PostHogError: as `count`.
        """
        rows = await self._rows(SELECT, selected, f"{ORDER} LIMIT {limit:d}")
        events = [event for row in rows if (event := _event(row)) is not None]
        return Page(events, len(rows) - len(events))

    async def next_position(self, selected: EventRange) -> tuple[datetime, str] | None:
        """Read only time and uuid of the next event; None if there is no more.

        Raises:
            PostHogError: as `count`.
        """
        rows = await self._rows(
            "SELECT timestamp, toString(uuid) FROM events", selected, f"{ORDER} LIMIT 1"
        )
        if not rows:
            return None
        timestamp, uuid = (*sequence(rows[0]), None, None)[:2]
        moment = _moment(timestamp)
        if moment is None or not isinstance(uuid, str) or not uuid:
            raise PostHogError("PostHog's answer to a query is not the place of an event")
        return moment, uuid

    async def _rows(self, select: str, selected: EventRange, end: str) -> list[Any]:
        since = selected.since if selected.after is None else selected.after[0]
        values = {"since": _text(since), "until": _text(selected.until)}
        conditions = ["timestamp >= toDateTime({since})", "timestamp < toDateTime({until})"]
        conditions += [
            f"coalesce(toString(properties.{name}), '') != '{value}'" for name, value in EXCLUDED
        ]
        if selected.events:
            names = {f"event{number}": name for number, name in enumerate(selected.events)}
            values |= names
            conditions.append("(" + " OR ".join(f"event = {{{name}}}" for name in names) + ")")
        if selected.after is not None:
            # Several events may have the same time; their uuids decide.
            values["uuid"] = selected.after[1]
            conditions.append("(timestamp > toDateTime({since}) OR toString(uuid) > {uuid})")
        query = f"{select} WHERE {' AND '.join(conditions)} {end}"
        request = _QueryRequest(query=_HogQL(query=query, values=values))
        body = await self._transport.post(
            self._path, request, seconds=QUERY_SECONDS, max_bytes=MAX_RESPONSE_BYTES
        )
        rows = mapping(body).get("results")
        if not isinstance(rows, list):
            raise PostHogError("PostHog's answer to a query has no rows")
        return rows


def _text(moment: datetime) -> str:
    # In UTC, or PostHog would use the time zone of the project.
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _event(row: Any) -> PastEvent | None:
    if not isinstance(row, list) or len(row) != COLUMNS:
        return None
    uuid, name, distinct_id, timestamp, properties, person = row
    if not all(isinstance(text, str) for text in (uuid, name, distinct_id)) or not uuid:
        return None
    moment = _moment(timestamp)
    if moment is None:
        return None
    return PastEvent(
        uuid=uuid,
        event=name,
        distinct_id=distinct_id,
        timestamp=moment,
        properties=_properties(properties),
        person_properties=_properties(person),
    )


def _moment(value: Any) -> datetime | None:
    try:
        return parse_moment(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _properties(value: Any) -> dict[str, Any]:
    """Properties of an event or a person, which HogQL returns as JSON text."""
    if isinstance(value, str):
        try:
            text = repaired_json(value.encode())
            value = {} if is_too_deep(text) else _decode(text)
        except NOT_JSON:
            return {}
    return mapping(value)
