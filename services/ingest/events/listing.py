"""Stored events as a list, in pages that stay quick among millions of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hogsend.contract.events import EventPage, ListEvents, StoredEvent
from hogsend.service.database import Database
from hogsend.service.nul import text_without_nul
from services.ingest.events.rows import stored_event
from services.ingest.list_reading import reading
from services.ingest.pages import (
    EXACT_FILTERED_TOTAL,
    EXACT_TOTAL,
    MOST_LOOKED_AT,
    MOST_SEARCHED,
    EventPosition,
    cursor,
    estimated_rows,
    position,
    take,
    total_of,
)
from services.ingest.queries import load

_queries = load(Path(__file__).with_name("listing.sql"))

LIST_SECONDS = 1.0
"""How long one of the statements for a page may take; who asks waits for two seconds."""
QUICKER = "narrow the time with from and to, or go on with before instead of offset"

_FILTERS = ("event", "user_id", "source")
"""Filters of which each has an index in the order of the list."""


class EventList:
    """The list of all stored events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: ListEvents, *, room: int | None = None) -> EventPage:
        """List stored events, the latest that happened first.

        Args:
            wanted: which.
            room: bytes that they may have together; a page is shorter where not all fit.

        Raises:
            Unavailable: PostgreSQL does not answer, or the page takes it too long.
        """
        filters: dict[str, object] = {
            "id": text_without_nul(wanted.id),
            "event": text_without_nul(wanted.event),
            "user_id": text_without_nul(wanted.user_id),
            "source": text_without_nul(wanted.source),
            "occurred_from": wanted.occurred_from,
            "occurred_to": wanted.occurred_to,
        }
        before = position(EventPosition, wanted.before)
        async with reading(self._database, LIST_SECONDS, QUICKER) as connection:
            filters["sources"] = await _sources(connection) if wanted.id is not None else None
            found_by = await _found_by(connection, filters)
            looked = MOST_SEARCHED if found_by.is_searched else wanted.limit + 1
            found = await take(
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
                    skip=0 if found_by.is_searched else wanted.offset,
                    most=looked,
                    offset=wanted.offset if found_by.is_searched else 0,
                    # One more than is shown tells whether there is another page.
                    limit=wanted.limit + 1,
                ),
                _matching,
                limit=wanted.limit,
                room=room,
            )
            shown, last = found.entries, found.last
            # Behind it the next page begins.
            end = None
            if found.is_cut or (last is not found.end and len(shown) == wanted.limit):
                end = found.end
            elif last is not None and last["is_last"]:
                end = last
            if end is None and before is None and (shown or not wanted.offset):
                total, estimated = wanted.offset + len(shown), False
            else:
                total, estimated = await _total(connection, filters, found_by)
                total = max(total, len(shown))
        return EventPage(
            events=shown,
            total=total,
            total_estimated=estimated,
            limit=wanted.limit,
            offset=wanted.offset,
            next_before=cursor(_position(end)) if end else None,
            searched_to=(
                end["occurred_at"]
                if end and not found.is_cut and len(shown) < wanted.limit
                else None
            ),
        )


class _FoundBy(NamedTuple):
    """Which filter finds events, in the order of its index; others choose from these."""

    name: str
    """Empty without a filter."""
    expected: int
    """How many it finds, by PostgreSQL's estimate."""
    is_searched: bool
    """Whether there are others: of what is found any number may not match."""


async def _found_by(connection: Any, filters: Mapping[str, object]) -> _FoundBy:
    """Choose the filter that finds the fewest."""
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
    """How many events match, and whether that is an estimate."""
    if all(value is None for value in filters.values()):
        return await total_of(
            await _queries.expected_total(connection, **filters),
            lambda: _counted(connection, filters, EXACT_TOTAL + 1),
            exact=EXACT_TOTAL,
        )
    # With several, some of those that one finds are not counted.
    most = MOST_LOOKED_AT if found_by.is_searched else EXACT_FILTERED_TOTAL + 1
    row = await _queries.total(connection, **filters, by=found_by.name, most=most)
    counted, looked = row["counted"], row["looked"]
    if looked < most:
        return counted, False
    if found_by.expected:
        # As many of all that it finds as of these. PostgreSQL takes filters for independent.
        return max(counted, round(found_by.expected * counted / looked)), True
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
