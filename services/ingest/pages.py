"""Where a page of a list begins, and how many rows there are in all, at any size of the table."""

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
"""Rows that are counted at most; beyond, PostgreSQL's estimate has to do."""
_FAR_MORE = 3
"""How many times as many rows as are counted at most PostgreSQL expects, where none is counted. Its
estimate of a whole table or of a day is wrong by what changed since it looked, a fifth or so."""
EXACT_FILTERED_TOTAL = 1_000
"""The same for events that a filter chose. Each is fetched, from anywhere on disk, to be compared;
a count of all events reads an index only."""
MOST_SEARCHED = 4_000
"""Events that one filter finds, and among which a page looks for those that the others match. Each
is fetched from anywhere on disk: 10,000 that were not in memory took a second on a busy machine."""
MOST_LOOKED_AT = 2_000
"""Events that one filter finds, and of which those are counted that the other filters match."""

_FIRST_ROWS = 4
"""Rows that are read at first."""
_MORE = 4
"""How many times as many rows are read next, where those before were small."""
_ROWS_BYTES = 1024 * 1024
"""Characters that are read at a time, as far as the rows before tell."""

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")]
_Hash = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Position = TypeVar("Position", bound=msgspec.Struct)
Entry = TypeVar("Entry", bound=msgspec.Struct)


class EventPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the list of events is sorted by. No two events have the same position."""

    occurred_at: _Moment
    received_at: _Moment
    source: _Text
    id: _Text
    event_hash: _Hash
    user_hash: _Hash


class AuditPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the audit trail is sorted by. No two entries have the same position."""

    at: _Moment
    id: UUID


class ContactPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the list of the newest contacts is sorted by. No two contacts have the same position."""

    created_at: _Moment
    id: UUID


def cursor(position: msgspec.Struct) -> str:
    """Write a position as text that callers pass on as it is."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def position(
    type: type[Position],
    cursor: str | None,
    wrong: str = "before must be the nextBefore of a page of this list",
) -> Position | None:
    """Read a position of `cursor`; None without one.

    Raises:
        InvalidRequest: it is no cursor of this list.
    """
    if cursor is None:
        return None
    try:
        document = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        found = msgspec.json.decode(document, type=type)
        for field in found.__struct_fields__:
            if isinstance(value := getattr(found, field), datetime):
                # PostgreSQL's driver would fail at the ends of the calendar.
                value.astimezone(UTC)
    except (*NOT_JSON, ValueError, OverflowError):
        raise InvalidRequest(wrong) from None
    return found


class _Plan(msgspec.Struct, frozen=True):
    rows: float = msgspec.field(name="Plan Rows")


class _Explained(msgspec.Struct, frozen=True):
    plan: _Plan = msgspec.field(name="Plan")


_explained = msgspec.json.Decoder(list[_Explained]).decode


async def read_on(found: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    """Read rows for as long as the reader asks for more; the others are not even made.

    A row may have some megabytes, as text up to hundred times what its JSON takes, and a page has
    room for less than one of those. So there are few at first, and more where they turn out small.

    Args:
        found: a query of aiosql, with a cursor.
    """
    async with found as prepared:
        cursor = await prepared
        most = _FIRST_ROWS
        while rows := await cursor.fetch(most):
            for row in rows:
                yield row
            size = sum(len(value) for row in rows for value in row.values() if type(value) is str)
            most = min(_MORE * most, max(_FIRST_ROWS, _ROWS_BYTES * len(rows) // (size + 1)))


class Taken(NamedTuple, Generic[Entry]):
    """The first rows of a query, as many as a page has room for."""

    entries: list[Entry]
    end: Any
    """The row of the last entry; None without any."""
    last: Any
    """The last row that was read, of an entry or behind the end; None without any."""
    is_cut: bool
    """Whether the next entry did not fit."""


async def take(
    found: AbstractAsyncContextManager[Any],
    entry_of: Callable[[Any], Entry | None],
    *,
    limit: int,
    room: int | None,
) -> Taken[Entry]:
    """Make entries of the first rows, as many as fit; one at least.

    Args:
        found: a query of aiosql, with a cursor.
        entry_of: makes an entry; None for a row that has none.
        limit: most entries.
        room: bytes that they may have together as JSON; None for any number.
    """
    entries = list[Entry]()
    end = last = None
    async with aclosing(read_on(found)) as each:
        async for row in each:
            last = row
            if len(entries) == limit:
                break
            entry = entry_of(row)
            if entry is None:
                continue
            if room is not None:
                room -= len(msgspec.json.encode(entry)) + len(b",")
                if entries and room < 0:
                    return Taken(entries, end, last, is_cut=True)
            entries.append(entry)
            end = row
    return Taken(entries, end, last, is_cut=False)


async def total_of(
    plan: str, count: Callable[[], Awaitable[int]], *, exact: int
) -> tuple[int, bool]:
    """How many rows there are, and whether that is PostgreSQL's estimate.

    Where it expects far more than are counted at most, none is. A count is not free: the index
    leads to each row that was written since the last vacuum.

    Args:
        plan: of all these rows, `EXPLAIN (FORMAT JSON)`.
        count: counts them, up to one more than `exact`.
        exact: how many are counted at most.
    """
    expected = estimated_rows(plan, exact)
    if expected <= _FAR_MORE * exact and (counted := await count()) <= exact:
        return counted, False
    return expected, True


def estimated_rows(plan: str, counted: int = EXACT_TOTAL) -> int:
    """How many rows PostgreSQL expects, of `EXPLAIN (FORMAT JSON)`; more than were counted."""
    return max(counted + 1, round(_explained(plan)[0].plan.rows))
