"""Stores people with their events, and reads the lists and counts of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hogsend.contract.directory import ListContacts, RecordContact
from hogsend.service.database import Database
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.merges import ContactMerges
from services.ingest.contacts.overview import OverviewReader
from services.ingest.contacts.timeline import TimelineReader
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.contact_recording import ContactRecorder
from services.ingest.events.recording import Recorder
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent
from tests.unit.ingest.fakes import FakePublisher

CROWD = """
WITH crowd AS (
    INSERT INTO contacts (id, source, external_id, properties, versions, created_at,
        first_seen_at, last_seen_at)
    SELECT gen_random_uuid(), 'posthog', 'u_' || n, '{}', '{}', now(), now(),
        now() - n * interval '1 second'
    FROM generate_series(1, 20000) AS n
    RETURNING id, external_id, last_seen_at
)
INSERT INTO events (source, id, event, user_id, contact_id, properties, occurred_at, received_at)
SELECT 'posthog', external_id, 'e', external_id, id, '{}', last_seen_at, last_seen_at FROM crowd
"""


class People:
    """The lists and counts of contacts, with the stores that fill them."""

    def __init__(self, database: Database) -> None:
        self.now = datetime.now(UTC) - timedelta(minutes=1)
        self.database = database
        self.store = EventStore(database, EventTable(database))
        self.directory = ContactDirectory(database)
        self.timelines = TimelineReader(database)
        self.overviews = OverviewReader(database)
        self.merges = ContactMerges(database)
        self.publisher = FakePublisher([])
        self.recorder = ContactRecorder(self.directory, Recorder(self.store, self.publisher))
        self._count = 0

    async def store_event(
        self,
        event: str = "opened",
        user_id: str = "",
        email: str | None = None,
        *,
        ago: timedelta = timedelta(),
        ahead: timedelta = timedelta(),
        source: str = "posthog",
        **properties: Any,
    ) -> None:
        self._count += 1
        stored = IncomingEvent(
            ref=EventRef(source, f"e-{self._count}"),
            name=event,
            user_id=user_id,
            email=email,
            occurred_at=self.now - ago + ahead,
            received_at=self.now - ago,
            properties=properties,
            person_properties={},
        )
        await self.store.save([stored])

    async def keys(self, **filters: Any) -> list[str]:
        page = await self.directory.page(ListContacts(**filters))
        return [contact.contact_key for contact in page.contacts]

    async def record(self, **fields: Any) -> tuple[str, bool, bool]:
        self.now += timedelta(seconds=1)
        done = await self.recorder.record(RecordContact(received_at=self.now, **fields), None)
        return done.id, done.created, done.linked
