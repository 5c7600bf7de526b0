"""How many emails were reported, and how many contacts as unsubscribed.

Of many the latest are looked at. How many there are in all is PostgreSQL's estimate then, and what
the latest say of them counts for the others. Each that is looked at is fetched, from anywhere on
disk, and so are few of very many.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiosql

from services.ingest.pages import estimated_rows

_queries: Any = aiosql.from_path(Path(__file__).with_name("reported.sql"), "asyncpg")

EXACT_MAILS = 10_000
"""Emails of a kind that are counted at most."""
LOOKED_AT = 1_000
"""Latest events of a name that are looked at where there are far more than are counted; also the
latest reports of either kind, for who is unsubscribed. Whose each of these is takes a look-up, and
20,000 took 45 ms."""
_FAR_MORE = 2
"""How many times as many as are counted those are, by PostgreSQL's estimate."""
_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_BOUNCED = "email.bounced"
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
    row, most = await _queries.mails(connection, event=event, now=now, most=LOOKED_AT), LOOKED_AT
    month = 0
    if row["looked"] == most:
        month = await _expected(connection, event, now - _SPANS["month"], now)
        if month <= _FAR_MORE * EXACT_MAILS:
            most = EXACT_MAILS + 1
            row = await _queries.mails(connection, event=event, now=now, most=most)
    counts = {span: row[span] for span in _SPANS}
    if row["looked"] < most:
        return Mails(**counts, estimated=False)
    for span, length in _SPANS.items():
        if now - length < row["earliest"]:
            expected = (
                month if span == "month" else await _expected(connection, event, now - length, now)
            )
            counts[span] = round(max(expected, most + 1) * row["month"] / row["looked"])
    return Mails(**counts, estimated=True)


async def bounced(connection: Any, now: datetime, sent: Mails) -> tuple[int, bool]:
    """Count the emails of 30 days that bounced, and say whether that is an estimate.

    It is where that of all that were sent is one: no rate becomes exact by half of it.
    """
    if not sent.estimated:
        counted = await mails(connection, _BOUNCED, now)
        return counted.month, counted.estimated
    row = await _queries.mails(connection, event=_BOUNCED, now=now, most=LOOKED_AT)
    if row["looked"] < LOOKED_AT:
        return row["month"], False
    month = await _expected(connection, _BOUNCED, now - _SPANS["month"], now)
    return round(max(month, LOOKED_AT + 1) * row["month"] / row["looked"]), True


async def _expected(
    connection: Any, event: str, since: datetime | None, before: datetime | None
) -> int:
    plan = await _queries.expected(connection, event=event, since=since, before=before)
    return estimated_rows(plan, counted=0)


async def unsubscribed(connection: Any) -> tuple[int, bool]:
    """Count the contacts, and say whether that is an estimate."""
    row = await _queries.unsubscribed(connection, most=LOOKED_AT)
    contacts, looked = row["contacts"], row["looked"]
    if not row["is_cut"]:
        return contacts, False
    expected = max(await _expected(connection, _UNSUBSCRIBED, None, None), looked + 1)
    return (round(expected * contacts / looked) if looked else expected), True
