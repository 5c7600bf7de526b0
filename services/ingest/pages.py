"""Pages of lists, and the number of rows in a list: bounded work for tables of any size."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.json_text import NOT_JSON

EXACT_TOTAL = 10_000
"""Most rows that are counted. If there are more, the total is PostgreSQL's estimate."""
_FAR_MORE = 3
"""If PostgreSQL expects this many times the rows that would be counted at most, none are counted.
Its estimate of a whole table or of a day is off by what changed since the last ANALYZE, about a
fifth."""
EXACT_FILTERED_TOTAL = 1_000
"""Most events that are counted with a filter. Each is fetched, from anywhere on disk, to be
compared; a count of all events reads an index only."""
MAX_SEARCHED = 4_000
"""Most events that match one filter and are compared with the other filters for one page. Each is
fetched from anywhere on disk: 10,000 that were not in memory took a second on a busy machine."""
MAX_CHECKED = 2_000
"""Most events that match one filter and are compared with the other filters for a total."""

_FIRST_ROWS = 4
"""Rows of the first fetch."""
_MORE = 4
"""A fetch has at most this many times the rows of the fetch before."""
_ROWS_BYTES = 1024 * 1024
"""About how many characters a fetch has, if its rows are as long as those before."""

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")]
_Hash = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Position = TypeVar("Position", bound=msgspec.Struct)
Entry = TypeVar("Entry", bound=msgspec.Struct)


class EventPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sort key of the list of events. No two events have the same position."""

    occurred_at: _Moment
    received_at: _Moment
    source: _Text
    id: _Text
    event_hash: _Hash
    user_hash: _Hash


class AuditPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sort key of the audit trail. No two entries have the same position."""

    at: _Moment
    id: UUID


class ContactPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sort key of the list of the newest contacts. No two contacts have the same position."""

    created_at: _Moment
    id: UUID


def encode_cursor(position: msgspec.Struct) -> str:
    """Encode a position as an opaque text for callers."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(
    type: type[Position],
    cursor: str | None,
    error: str = "before must be the nextBefore of a page of this list",
) -> Position | None:
    """Decode the position in `cursor`; None without a cursor.

    Raises:
        InvalidRequest: `cursor` is not a cursor of this list; `error` is the message.
    """
    if cursor is None:
        return None
    try:
        document = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        position = msgspec.json.decode(document, type=type)
        for field in position.__struct_fields__:
            if isinstance(value := getattr(position, field), datetime):
                # Fails here for the first and the last day of the calendar, as asyncpg would.
                value.astimezone(UTC)
    except (*NOT_JSON, ValueError, OverflowError):
        raise InvalidRequest(error) from None
    return position


class _Plan(msgspec.Struct, frozen=True):
    rows: float = msgspec.field(name="Plan Rows")


class _Explained(msgspec.Struct, frozen=True):
    plan: _Plan = msgspec.field(name="Plan")


_explained = msgspec.json.Decoder(list[_Explained]).decode


async def read_rows(query: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    """Read the rows of a query until the caller stops; PostgreSQL does not produce the others.

    A row may have some megabytes, and up to a hundred times as many characters as its JSON has
    bytes, which is more than a page may have. So the first fetch has few rows, and the next ones
    have more if the rows are small.

    Args:
        query: a query of aiosql with a cursor.
    """
    async with query as prepared:
        cursor = await prepared
        count = _FIRST_ROWS
        while rows := await cursor.fetch(count):
            for row in rows:
                yield row
            size = sum(len(value) for row in rows for value in row.values() if type(value) is str)
            count = min(_MORE * count, max(_FIRST_ROWS, _ROWS_BYTES * len(rows) // (size + 1)))


class PageEntries(NamedTuple, Generic[Entry]):
    """The entries of one page."""

    entries: list[Entry]
    end: Any
    """The row of the last entry; None without entries."""
    last: Any
    """The last row that was read, which may be after `end`; None without rows."""
    is_cut: bool
    """Whether the next entry did not fit into the page's bytes."""


async def read_entries(
    query: AbstractAsyncContextManager[Any],
    to_entry: Callable[[Any], Entry | None],
    *,
    limit: int,
    max_bytes: int | None,
) -> PageEntries[Entry]:
    """Read as many entries as fit into a page, at least one.

    Args:
        query: a query of aiosql with a cursor.
        to_entry: converts a row; returns None for a row without an entry.
        limit: most entries.
        max_bytes: most bytes of all entries together as JSON; None is any number.
    """
    entries = list[Entry]()
    end = last = None
    async with aclosing(read_rows(query)) as rows:
        async for row in rows:
            last = row
            if len(entries) == limit:
                break
            entry = to_entry(row)
            if entry is None:
                continue
            if max_bytes is not None:
                max_bytes -= len(msgspec.json.encode(entry)) + len(b",")
                if entries and max_bytes < 0:
                    return PageEntries(entries, end, last, is_cut=True)
            entries.append(entry)
            end = row
    return PageEntries(entries, end, last, is_cut=False)


async def count_or_estimate(
    plan: str, count: Callable[[], Awaitable[int]], *, exact: int
) -> tuple[int, bool]:
    """Return the number of rows, and whether it is PostgreSQL's estimate.

    If PostgreSQL expects far more rows than are counted at most, none are counted. A count costs
    time even with an index: each row that was written since the last vacuum is fetched.

    Args:
        plan: `EXPLAIN (FORMAT JSON)` of the query for all these rows.
        count: counts the rows, up to one more than `exact`.
        exact: most rows that are counted.
    """
    expected = estimated_rows(plan, exact)
    if expected <= _FAR_MORE * exact and (counted := await count()) <= exact:
        return counted, False
    return expected, True


def estimated_rows(plan: str, counted: int = EXACT_TOTAL) -> int:
    """How many rows PostgreSQL expects by a plan (`EXPLAIN (FORMAT JSON)`).

    The result is more than `counted`: so many rows exist for certain.
    """
    return max(counted + 1, round(_explained(plan)[0].plan.rows))
