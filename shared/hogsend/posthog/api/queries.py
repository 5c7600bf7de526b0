"""`/api/projects/{id}/query/`: events of the past, by HogQL."""

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
MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of a page of events, which are large and mostly text."""
SELECT = (
    "SELECT toString(uuid), event, distinct_id, timestamp, properties, person.properties "
    "FROM events"
)
WIDTH = 6
ORDER = "ORDER BY timestamp ASC, toString(uuid) ASC"
LEFT_OUT = (("$lib", "hogsend"), ("$is_identified", "false"), ("$process_person_profile", "false"))
"""Properties and values of events that are not wanted: what Hogsend captured itself is here as it
was reported, and the destination would not deliver anonymous visitors."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted, in order of time; never those of `LEFT_OUT`."""

    since: datetime
    until: datetime
    """Only events before it."""
    events: Sequence[str] = ()
    """Only these names; all when it is empty."""
    after: tuple[datetime, str] | None = None
    """Time and uuid of the last event that is known; no uuid: only those before this time are."""


class Page(msgspec.Struct, frozen=True):
    """Events in order of time and uuid; none after the last one."""

    events: list[PastEvent]
    unreadable: int
    """Rows that are no events, for example without a time."""


class _HogQL(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    values: dict[str, str]
    kind: Literal["HogQLQuery"] = "HogQLQuery"


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    query: _HogQL
    name: str = "hogsend backfill"
    refresh: str = "force_blocking"


class Queries:
    """Queries of one project; they need the scope `query:read`."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        self._transport = transport
        self.project = f"{transport.host}/project/{project_id}"
        """Address of the project in PostHog."""
        self._path = f"/api/projects/{quote(project_id, safe='')}/query/"

    async def count(self, wanted: Slice) -> int:
        """Count events.

        Raises:
            PostHogError: PostHog refused, could not be reached, or did not answer with rows.
        """
        rows = await self._rows("SELECT count() FROM events", wanted, "LIMIT 1")
        count = sequence(rows[0])[0] if rows and sequence(rows[0]) else None
        if not isinstance(count, int):
            raise PostHogError("PostHog's answer to a query is not a number")
        return count

    async def page(self, wanted: Slice, limit: int) -> Page:
        """Read the next `limit` events (PostHog gives 50,000 at most); raises as `count`.

        Raises:
            PostHogAnswerTooLarge: they have more than `MAX_ANSWER_BYTES`.
        """
        rows = await self._rows(SELECT, wanted, f"{ORDER} LIMIT {limit:d}")
        events = [event for row in rows if (event := _event(row)) is not None]
        return Page(events, len(rows) - len(events))

    async def next_position(self, wanted: Slice) -> tuple[datetime, str] | None:
        """Read time and uuid alone of the next event, None after the last; raises as `count`."""
        rows = await self._rows(
            "SELECT timestamp, toString(uuid) FROM events", wanted, f"{ORDER} LIMIT 1"
        )
        if not rows:
            return None
        timestamp, uuid = (*sequence(rows[0]), None, None)[:2]
        moment = _moment(timestamp)
        if moment is None or not isinstance(uuid, str) or not uuid:
            raise PostHogError("PostHog's answer to a query is not the place of an event")
        return moment, uuid

    async def _rows(self, select: str, wanted: Slice, end: str) -> list[Any]:
        since = wanted.since if wanted.after is None else wanted.after[0]
        values = {"since": _text(since), "until": _text(wanted.until)}
        conditions = ["timestamp >= toDateTime({since})", "timestamp < toDateTime({until})"]
        conditions += [
            f"coalesce(toString(properties.{name}), '') != '{value}'" for name, value in LEFT_OUT
        ]
        if wanted.events:
            names = {f"event{number}": name for number, name in enumerate(wanted.events)}
            values |= names
            conditions.append("(" + " OR ".join(f"event = {{{name}}}" for name in names) + ")")
        if wanted.after is not None:
            # Of those at that very time, the ones after it.
            values["uuid"] = wanted.after[1]
            conditions.append("(timestamp > toDateTime({since}) OR toString(uuid) > {uuid})")
        query = f"{select} WHERE {' AND '.join(conditions)} {end}"
        asked = _Asked(query=_HogQL(query=query, values=values))
        answer = await self._transport.post(
            self._path, asked, seconds=QUERY_SECONDS, max_bytes=MAX_ANSWER_BYTES
        )
        rows = mapping(answer).get("results")
        if not isinstance(rows, list):
            raise PostHogError("PostHog's answer to a query has no rows")
        return rows


def _text(moment: datetime) -> str:
    # With a zone, so that the project's own does not matter.
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _event(row: Any) -> PastEvent | None:
    if not isinstance(row, list) or len(row) != WIDTH:
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
        properties=_bag(properties),
        person_properties=_bag(person),
    )


def _moment(value: Any) -> datetime | None:
    try:
        return parse_moment(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _bag(value: Any) -> dict[str, Any]:
    """A bag; HogQL gives it as JSON text."""
    if isinstance(value, str):
        try:
            text = repaired_json(value.encode())
            value = {} if is_too_deep(text) else _decode(text)
        except NOT_JSON:
            return {}
    return mapping(value)
