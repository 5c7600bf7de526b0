"""What the ingest service does: takes events in, knows contacts, keeps dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog
from nats.aio.msg import Msg

from hogsend.contract.audit import INGEST_AUDIT, AuditPage, ListAudit
from hogsend.contract.base import Empty
from hogsend.contract.contacts import (
    INGEST_CONTACT,
    INGEST_FILL_TIMEZONE,
    Contact,
    ContactRef,
    FillTimezone,
)
from hogsend.contract.dead_letters import (
    INGEST_DEAD_LETTERS,
    INGEST_PURGE,
    INGEST_REPLAY,
    DeadLetterPage,
    DeadLettersDone,
    ListDeadLetters,
    PurgeDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.events import (
    INGEST_EVENTS,
    INGEST_RECORD,
    EventPage,
    ListEvents,
    Recorded,
    RecordEvent,
)
from hogsend.contract.health import INGEST_HEALTH, ServiceHealth
from hogsend.service.database import Database
from hogsend.service.retry import waiting_for
from hogsend.service.serving import AnyHandler, Handler, service_health
from hogsend.transport.connection import Connection
from services.ingest.audit import AuditTrail
from services.ingest.contacts.lookup import ContactStore
from services.ingest.dead_letters.admin import DeadLetterAdmin
from services.ingest.dead_letters.publish import DeadLetters
from services.ingest.dead_letters.replay import Replayer
from services.ingest.dead_letters.stream import DeadLetterStream
from services.ingest.events.event_processor import EventProcessor
from services.ingest.events.recording import Recorder
from services.ingest.events.store import EventStore
from services.ingest.sources import decode

CORRELATION = "correlation_id"
_FRAMING_BYTES = 1024


class Handlers:
    """One short method per subject."""

    def __init__(self, bus: Connection, database: Database) -> None:
        """Work on the service's own bus connection and database."""
        publisher = bus.publisher
        self._bus = bus
        self._database = database
        self._store = EventStore(database)
        self._contacts = ContactStore(database)
        dead_letters = DeadLetters(publisher)
        self._webhooks = EventProcessor(decode.decode_webhook, self._store, publisher, dead_letters)
        self._engagement = EventProcessor(
            decode.decode_engagement, self._store, publisher, dead_letters
        )
        self._audit = AuditTrail(database, dead_letters)
        self._recorder = Recorder(self._store, publisher)
        letters = DeadLetterStream(bus)
        self._dead_letters = DeadLetterAdmin(letters)
        self._replayer = Replayer(bus.publisher, letters, self._dead_letters)

    def all(self) -> list[AnyHandler]:
        """Pair every request subject with its method."""
        return [
            Handler(INGEST_EVENTS, self.events),
            Handler(INGEST_RECORD, self.record),
            Handler(INGEST_AUDIT, self.audit),
            Handler(INGEST_CONTACT, self.contact),
            Handler(INGEST_FILL_TIMEZONE, self.fill_timezone),
            Handler(INGEST_DEAD_LETTERS, self.dead_letters),
            Handler(INGEST_REPLAY, self.replay),
            Handler(INGEST_PURGE, self.purge),
            Handler(INGEST_HEALTH, self.health),
        ]

    async def webhooks(self, messages: Sequence[Msg]) -> None:
        """Take a batch of webhooks in."""
        await self._webhooks.process(messages)

    async def engagement(self, messages: Sequence[Msg]) -> None:
        """Record a batch of engagement."""
        await self._engagement.process(messages)

    async def audit_entries(self, messages: Sequence[Msg]) -> None:
        """Keep a batch of the audit trail."""
        await self._audit.process(messages)

    async def audit(self, wanted: ListAudit) -> AuditPage:
        """List the audit trail."""
        return await self._audit.page(wanted)

    async def events(self, wanted: ListEvents) -> EventPage:
        """List stored events."""
        page = await self._store.page(wanted)
        if len(msgspec.json.encode(page)) + _FRAMING_BYTES > self._bus.max_payload:
            raise InvalidRequest("these events do not fit into one answer; ask for fewer at a time")
        return page

    async def record(self, reported: RecordEvent) -> Recorded:
        """Store an event somebody reported, and announce it."""
        correlation_id = structlog.contextvars.get_contextvars().get(CORRELATION)
        return await self._recorder.record(reported, correlation_id)

    async def contact(self, wanted: ContactRef) -> Contact:
        """Say what is known about a contact."""
        return await self._contacts.find(wanted.user_id)

    async def fill_timezone(self, found: FillTimezone) -> Empty:
        """Keep a time zone for a contact that has none."""
        await self._contacts.fill_timezone(found.user_id, found.timezone)
        return Empty()

    async def dead_letters(self, wanted: ListDeadLetters) -> DeadLetterPage:
        """List dead letters."""
        return await self._dead_letters.page(wanted)

    async def replay(self, wanted: ReplayDeadLetters) -> DeadLettersDone:
        """Put dead letters back on their streams."""
        return await self._replayer.replay(wanted)

    async def purge(self, wanted: PurgeDeadLetters) -> DeadLettersDone:
        """Forget dead letters."""
        return await self._dead_letters.purge(wanted)

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        health = await service_health("ingest", self._database)
        return msgspec.structs.replace(health, waits_for=waiting_for())
