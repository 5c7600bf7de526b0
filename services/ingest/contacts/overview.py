"""Counts all contacts, the events of the last day, and reported emails."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hogsend.contract.directory import Overview
from hogsend.service.database import Database
from services.ingest.contacts import reported
from services.ingest.contacts.directory import LIST_SECONDS, count_contacts
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import EXACT_TOTAL, count_or_estimate
from services.ingest.queries import load

_queries = load(Path(__file__).with_name("overview.sql"))


class OverviewReader:
    """Counts for operators. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Overview:
        """Count contacts, events and reported emails; large numbers are estimates."""
        now = datetime.now(UTC)
        hint = "list events by their name instead"
        async with list_snapshot(self._database, LIST_SECONDS, hint) as connection:
            contacts, contacts_estimated = await count_contacts(connection)
            events, events_estimated = await count_or_estimate(
                await _queries.expected_events_in_a_day(connection, now=now),
                lambda: _queries.events_in_a_day(connection, now=now, most=EXACT_TOTAL + 1),
                exact=EXACT_TOTAL,
            )
            sent = await reported.mails(connection, "email.sent", now)
            bounced, bounced_estimated = await reported.bounced(connection, now, sent)
            unsubscribed, unsubscribed_estimated = await reported.unsubscribed(connection)
        return Overview(
            total_contacts=contacts,
            total_contacts_estimated=contacts_estimated,
            events24h=events,
            events24h_estimated=events_estimated,
            emails_sent24h=sent.day,
            emails_sent7d=sent.week,
            emails_sent30d=sent.month,
            emails_estimated=sent.estimated or bounced_estimated,
            bounce_rate30d=_rate(bounced, sent.month),
            unsubscribe_rate=_rate(min(unsubscribed, contacts), contacts),
            unsubscribe_rate_estimated=unsubscribed_estimated,
        )


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
