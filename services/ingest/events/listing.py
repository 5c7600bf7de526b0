"""Lists stored events in pages that are quick to read among millions of events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hogsend.contract.events import EventPage, ListEvents, StoredEvent
from hogsend.service.database import Database
from hogsend.service.nul import text_without_nul
from services.ingest.events.rows import stored_event
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import (
    EXACT_FILTERED_TOTAL,
    EXACT_TOTAL,
    MAX_CHECKED,
    MAX_SEARCHED,
    EventPosition,
    count_or_estimate,
    decode_cursor,
    encode_cursor,
    estimated_rows,
    read_entries,
)
from services.ingest.queries import load

_queries = load(Path(__file__).with_name("listing.sql"))

LIST_SECONDS = 1.0
"""Time limit of each statement for a page; the caller waits for two seconds."""
QUICKER = "narrow the time with from and to, or continue with before instead of offset"
"""What a caller can do if a page takes too long."""

_FILTERS = ("event", "user_id", "source")
"""Filters for which there is an index in the order of the list."""


class EventList:
    """The list of all stored events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, request: ListEvents, *, max_bytes: int | None = None) -> EventPage:
        """List stored events, the latest occurrence first.

        Args:
            request: filters and the position of the page.
            max_bytes: most bytes of the events as JSON; a page is shorter if not all fit.

        Raises:
            Unavailable: PostgreSQL is unavailable, or takes too long for the page.
        """
        filters: dict[str, object] = {
            "id": text_without_nul(request.id),
            "event": text_without_nul(request.event),
            "user_id": text_without_nul(request.user_id),
            "source": text_without_nul(request.source),
            "occurred_from": request.occurred_from,
            "occurred_to": request.occurred_to,
        }
        before = decode_cursor(EventPosition, request.before)
        async with list_snapshot(self._database, LIST_SECONDS, QUICKER) as connection:
            filters["sources"] = await _sources(connection) if request.id is not None else None
            found_by = await _found_by(connection, filters)
            most = MAX_SEARCHED if found_by.is_searched else request.limit + 1
            page = await read_entries(
                _queries.page_cursor(
                    connection,
                    **filters,
                    by=found_by.name,
                    before=before is not None,
                    before_occurred=before and before.occurred_at,
                    before_received=before and before.received_at,
                    before_source=before and before.source,
                    before_id=before and before.id,
                    before_event=before and before.event_hash,
                    before_user=before and before.user_hash,
                    skip=0 if found_by.is_searched else request.offset,
                    most=most,
                    offset=request.offset if found_by.is_searched else 0,
                    # One more than requested shows whether there is another page.
                    limit=request.limit + 1,
                ),
                _matching,
                limit=request.limit,
                max_bytes=max_bytes,
            )
            events, last = page.entries, page.last
            # The row after which the next page starts; None on the last page.
            end = None
            if page.is_cut or (last is not page.end and len(events) == request.limit):
                end = page.end
            elif last is not None and last["is_last"]:
                end = last
            if end is None and before is None and (events or not request.offset):
                total, estimated = request.offset + len(events), False
            else:
                total, estimated = await _total(connection, filters, found_by)
                total = max(total, len(events))
        return EventPage(
            events=events,
            total=total,
            total_estimated=estimated,
            limit=request.limit,
            offset=request.offset,
            next_before=encode_cursor(_position(end)) if end else None,
            searched_to=(
                end["occurred_at"]
                if end and not page.is_cut and len(events) < request.limit
                else None
            ),
        )


class _FoundBy(NamedTuple):
    """The filter whose index is read; the events that it finds are compared with the others."""

    name: str
    """Empty without a filter."""
    expected: int
    """How many events it finds, by PostgreSQL's estimate."""
    is_searched: bool
    """Whether there are other filters, so that any number of the found events may not match."""


async def _found_by(connection: Any, filters: Mapping[str, object]) -> _FoundBy:
    """Choose the filter that finds the fewest events."""
    given = [name for name in _FILTERS if filters[name] is not None]
    if filters["id"] is not None:
        return _FoundBy("id", 0, is_searched=True)
    if len(given) < 2:  # noqa: PLR2004
        return _FoundBy("".join(given), 0, is_searched=False)
    without = dict.fromkeys(_FILTERS)
    expected = {
        name: estimated_rows(
            await _queries.expected_total(
                connection, **{**filters, **without, name: filters[name]}
            ),
            counted=0,
        )
        for name in given
    }
    name = min(expected, key=expected.__getitem__)
    return _FoundBy(name, expected[name], is_searched=True)


async def _total(
    connection: Any, filters: Mapping[str, object], found_by: _FoundBy
) -> tuple[int, bool]:
    """Return how many events match, and whether that is an estimate."""
    if all(value is None for value in filters.values()):
        return await count_or_estimate(
            await _queries.expected_total(connection, **filters),
            lambda: _counted(connection, filters, EXACT_TOTAL + 1),
            exact=EXACT_TOTAL,
        )
    most = MAX_CHECKED if found_by.is_searched else EXACT_FILTERED_TOTAL + 1
    row = await _queries.total(connection, **filters, by=found_by.name, most=most)
    counted, checked = row["counted"], row["checked"]
    if checked < most:
        return counted, False
    if found_by.expected:
        # The share of matches among the checked events is applied to all that the filter finds.
        # PostgreSQL's own estimate would take the filters for independent.
        return max(counted, round(found_by.expected * counted / checked)), True
    plan = await _queries.expected_total(connection, **filters)
    return estimated_rows(plan, counted), True


async def _counted(connection: Any, filters: Mapping[str, object], most: int) -> int:
    counted: int = (await _queries.total(connection, **filters, by="", most=most))["counted"]
    return counted


async def _sources(connection: Any) -> list[str]:
    return [row["source"] async for row in _queries.known_sources(connection)]


def _matching(row: Mapping[str, Any]) -> StoredEvent | None:
    return stored_event(row) if row["matches"] else None


def _position(row: Any) -> EventPosition:
    return EventPosition(*(row[name] for name in EventPosition.__struct_fields__))
