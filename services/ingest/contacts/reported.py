"""Counts reported emails, and contacts that were reported as unsubscribed.

If there are many, only the latest are read, because each is fetched from anywhere on disk. The
number of all is PostgreSQL's estimate then, multiplied by the share among the latest.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiosql

from services.ingest.pages import estimated_rows

_queries: Any = aiosql.from_path(Path(__file__).with_name("reported.sql"), "asyncpg")

EXACT_MAILS = 10_000
"""Most emails of a kind that are counted exactly."""
MAX_READ = 1_000
"""Most of the latest events of a name that are read if there are too many to be counted; also of
the latest reports of each kind, for the number of unsubscribed contacts. Each of these takes a
look-up of its contact; 20,000 took 45 ms."""
_FAR_MORE = 2
"""If PostgreSQL expects more than this many times `EXACT_MAILS`, the emails are not counted."""
_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_BOUNCED = "email.bounced"
_UNSUBSCRIBED = "contact.unsubscribed"


class Mails(NamedTuple):
    """The number of emails of one kind in the last day, week and month."""

    day: int
    week: int
    month: int
    estimated: bool


async def mails(connection: Any, event: str, now: datetime) -> Mails:
    """Count the emails of the last 30 days.

    Args:
        connection: must plan each statement for its values, see `list_snapshot`.
        event: kind of the emails, for example `email.sent`.
        now: end of the 30 days.
    """
    row, most = await _queries.mails(connection, event=event, now=now, most=MAX_READ), MAX_READ
    month = 0
    if row["checked"] == most:
        month = await _expected(connection, event, now - _SPANS["month"], now)
        if month <= _FAR_MORE * EXACT_MAILS:
            most = EXACT_MAILS + 1
            row = await _queries.mails(connection, event=event, now=now, most=most)
    counts = {span: row[span] for span in _SPANS}
    if row["checked"] < most:
        return Mails(**counts, estimated=False)
    for span, length in _SPANS.items():
        if now - length < row["earliest"]:
            expected = (
                month if span == "month" else await _expected(connection, event, now - length, now)
            )
            counts[span] = round(max(expected, most + 1) * row["month"] / row["checked"])
    return Mails(**counts, estimated=True)


async def bounced(connection: Any, now: datetime, sent: Mails) -> tuple[int, bool]:
    """Count the emails of the last 30 days that bounced.

    If the number of sent emails is an estimate, this is one, too: the rate would not be exact.

    Returns:
        Their number, and whether it is an estimate.
    """
    if not sent.estimated:
        counted = await mails(connection, _BOUNCED, now)
        return counted.month, counted.estimated
    row = await _queries.mails(connection, event=_BOUNCED, now=now, most=MAX_READ)
    if row["checked"] < MAX_READ:
        return row["month"], False
    month = await _expected(connection, _BOUNCED, now - _SPANS["month"], now)
    return round(max(month, MAX_READ + 1) * row["month"] / row["checked"]), True


async def _expected(
    connection: Any, event: str, since: datetime | None, before: datetime | None
) -> int:
    plan = await _queries.expected(connection, event=event, since=since, before=before)
    return estimated_rows(plan, counted=0)


async def unsubscribed(connection: Any) -> tuple[int, bool]:
    """Count the contacts that are unsubscribed.

    Returns:
        Their number, and whether it is an estimate.
    """
    row = await _queries.unsubscribed(connection, most=MAX_READ)
    contacts, checked = row["contacts"], row["checked"]
    if not row["is_cut"]:
        return contacts, False
    expected = max(await _expected(connection, _UNSUBSCRIBED, None, None), checked + 1)
    return (round(expected * contacts / checked) if checked else expected), True
