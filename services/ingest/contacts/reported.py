"""How many emails were reported, and how many contacts as unsubscribed.

Of many the latest are looked at. How many there are in all is PostgreSQL's estimate then, and what
the latest say of them counts for the others.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiosql

from services.ingest.pages import estimated_rows

_queries: Any = aiosql.from_path(Path(__file__).with_name("reported.sql"), "asyncpg")

LOOKED_AT = 10_000
"""Latest events of a name that are looked at. Each is fetched from anywhere on disk: a million took
two seconds on a busy machine, these 30 ms."""
_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_UNSUBSCRIBED = "contact.unsubscribed"


class Mails(NamedTuple):
    """Emails of one kind."""

    day: int
    week: int
    month: int
    estimated: bool


async def mails(connection: Any, event: str, now: datetime) -> Mails:
    """Count the emails of 30 days, `event` being `email.sent` for example.

    The connection has to plan for these values.
    """
    row = await _queries.mails(connection, event=event, now=now, most=LOOKED_AT)
    counts = {span: row[span] for span in _SPANS}
    if row["looked"] < LOOKED_AT:
        return Mails(**counts, estimated=False)
    for span, length in _SPANS.items():
        if now - length < row["earliest"]:
            plan = await _queries.expected(connection, event=event, since=now - length, before=now)
            expected = estimated_rows(plan, row["looked"])
            counts[span] = round(expected * row["month"] / row["looked"])
    return Mails(**counts, estimated=True)


async def unsubscribed(connection: Any) -> tuple[int, bool]:
    """Count the contacts, and say whether that is an estimate."""
    row = await _queries.unsubscribed(connection, most=LOOKED_AT)
    contacts, looked = row["contacts"], row["looked"]
    if not row["is_cut"]:
        return contacts, False
    plan = await _queries.expected(connection, event=_UNSUBSCRIBED, since=None, before=None)
    expected = estimated_rows(plan, looked)
    return (round(expected * contacts / looked) if looked else expected), True
