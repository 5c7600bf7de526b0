"""Ingest's consumers and endpoints: events, contacts, dead letters, the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from nats.aio.msg import Msg

from hogsend.contract.audit import ADMIN_REQUEST_AUDITED, INGEST_AUDIT, AuditPage, ListAudit
from hogsend.contract.backfills import INGEST_STORE_PAST, PastStored, StorePast
from hogsend.contract.base import Empty, Message
from hogsend.contract.consumers import CONSUMER_REQUESTS, CONSUMER_REQUESTS_USER
from hogsend.contract.contacts import (
    CONTACT_ERASED,
    INGEST_CONTACT,
    INGEST_CONTACTS,
    INGEST_ERASE,
    INGEST_FILL_TIMEZONE,
    INGEST_SPLIT,
    Contact,
    ContactList,
    ContactRef,
    EraseContact,
    Erasure,
    FillTimezone,
    FindContacts,
    SplitContacts,
)
from hogsend.contract.dead_letters import (
    INGEST_DEAD_LETTERS,
    INGEST_PURGE,
    INGEST_REPLAY,
    MESSAGE_DEAD_LETTERED,
    DeadLetterPage,
    DeadLettersDone,
    ListDeadLetters,
    PurgeDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.directory import (
    INGEST_LIST_CONTACTS,
    INGEST_OVERVIEW,
    INGEST_RECORD_CONTACT,
    INGEST_TIMELINE,
    ContactPage,
    ContactRecorded,
    GetOverview,
    ListContacts,
    ListTimeline,
    Overview,
    RecordContact,
    Timeline,
)
from hogsend.contract.engagement import ENGAGEMENT_REPORTED
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.events import (
    EVENT_ANNOUNCED,
    INGEST_EVENT_TRACE,
    INGEST_EVENTS,
    INGEST_RECORD,
    EventPage,
    EventTrace,
    ListEvents,
    Recorded,
    RecordEvent,
    TraceEvent,
)
from hogsend.contract.exports import INGEST_EXPORT, ExportContact, ExportPage
from hogsend.contract.health import INGEST_HEALTH, ServiceHealth
from hogsend.contract.notices import (
    INGEST_CLAIM_NOTICE,
    INGEST_TOLD,
    ClaimedNotice,
    ClaimNotice,
    ToldProblems,
)
from hogsend.contract.partitions import PARTITIONED
from hogsend.contract.persons import EVENT_CAPTURED, PERSON_ALIASED, PERSON_SET
from hogsend.contract.replays import (
    EVENT_REPLAYED,
    INGEST_REPLAY_EVENTS,
    EventsReplayed,
    ReplayEvents,
)
from hogsend.contract.streams import (
    AUDIT_CONSUMER,
    ENGAGEMENT_CONSUMER,
    INGEST_CONSUMER,
    StreamName,
)
from hogsend.contract.webhooks import WEBHOOK_ACCEPTED, WEBHOOK_ACCEPTED_IN_ORDER
from hogsend.service.health import HealthReporter
from hogsend.service.injection import Injected
from hogsend.service.requester import RawRequest
from hogsend.service.router import ServiceRouter
from hogsend.transport.connection import Connection
from hogsend.transport.correlation import correlation_id
from services.ingest import metrics
from services.ingest.audit import AuditTrail
from services.ingest.consumer_api.requests import ConsumerRequests
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.lookup import ContactStore
from services.ingest.contacts.merges import ContactMerges
from services.ingest.contacts.overview import OverviewReader
from services.ingest.contacts.timeline import TimelineReader
from services.ingest.dead_letters.admin import DeadLetterAdmin
from services.ingest.dead_letters.replay import Replayer
from services.ingest.erasure.jobs import ErasureJobs
from services.ingest.erasure.worker import ErasureWorker
from services.ingest.events.contact_recording import ContactRecorder
from services.ingest.events.event_processor import EventProcessor
from services.ingest.events.listing import EventList
from services.ingest.events.past_events import PastEvents
from services.ingest.events.recording import Recorder
from services.ingest.events.trace import EventTraces
from services.ingest.export.exporter import Exporter
from services.ingest.notices import NoticeClaims
from services.ingest.replay.replayer import EventReplayer
from services.ingest.sources.decode import decode_engagement, decode_webhook

_FRAMING_BYTES = 16 * 1024
"""Bytes of a reply that are set aside for its headers and for what a page has besides entries."""

Page = TypeVar("Page", EventPage, ContactPage, Timeline)

router = ServiceRouter()

router.publishes(
    CONTACT_ERASED,
    EVENT_ANNOUNCED,
    EVENT_REPLAYED,
    ENGAGEMENT_REPORTED,
    MESSAGE_DEAD_LETTERED,
    # Replayed dead letters go back to the streams they came from.
    WEBHOOK_ACCEPTED,
    WEBHOOK_ACCEPTED_IN_ORDER,
    ADMIN_REQUEST_AUDITED,
    EVENT_CAPTURED,
    PERSON_ALIASED,
    PERSON_SET,
)


@router.batches(StreamName.WEBHOOKS, INGEST_CONSUMER, workers=4, on_nak=metrics.NAKS.inc)
async def webhooks(messages: list[Msg], processor: Injected[EventProcessor]) -> None:
    """Store and publish a batch of webhooks."""
    await processor.process(messages, decode_webhook)


@router.batches(
    StreamName.WEBHOOKS,
    INGEST_CONSUMER.evolve(durable_name=None, filter_subject=PARTITIONED),
    auto_start=False,
    on_nak=metrics.NAKS.inc,
)
async def webhooks_in_order(messages: list[Msg], processor: Injected[EventProcessor]) -> None:
    """Store and publish webhooks of one partition; see `services.ingest.partitions`."""
    await processor.process(messages, decode_webhook, in_order=True)


@router.batches(StreamName.ENGAGEMENT, ENGAGEMENT_CONSUMER, workers=2, on_nak=metrics.NAKS.inc)
async def engagement(messages: list[Msg], processor: Injected[EventProcessor]) -> None:
    """Store and publish a batch of engagement, as events with the source `hogsend`."""
    await processor.process(messages, decode_engagement)


@router.batches(StreamName.AUDIT, AUDIT_CONSUMER, on_nak=metrics.NAKS.inc)
async def audit_entries(messages: list[Msg], trail: Injected[AuditTrail]) -> None:
    """Store a batch of entries of the audit trail."""
    await trail.process(messages)


@router.raw_requests(f"{CONSUMER_REQUESTS}.>", queue=CONSUMER_REQUESTS_USER)
async def consumers(request: RawRequest, requests: Injected[ConsumerRequests]) -> bytes:
    """Create or delete a consumer for other people's services, as JetStream's API would."""
    return await requests.reply_to(
        request.subject.removeprefix(f"{CONSUMER_REQUESTS}."), request.body
    )


@router.endpoint(INGEST_EVENTS)
async def events(
    request: ListEvents, stored: Injected[EventList], link: Injected[Connection]
) -> EventPage:
    """List stored events, newest first."""
    max_bytes = link.max_payload - _FRAMING_BYTES
    page = await stored.page(request, max_bytes=max_bytes)
    return _require_fitting(page, page.events, max_bytes, "event")


@router.endpoint(INGEST_REPLAY_EVENTS)
async def replay_events(request: ReplayEvents, replayer: Injected[EventReplayer]) -> EventsReplayed:
    """Deliver the next part of a replay to a durable."""
    return await replayer.replay(request)


@router.endpoint(INGEST_EVENT_TRACE)
async def event_trace(request: TraceEvent, traces: Injected[EventTraces]) -> EventTrace:
    """Return what happened to one event."""
    return await traces.trace(request)


@router.endpoint(INGEST_RECORD)
async def record(request: RecordEvent, recorder: Injected[Recorder]) -> Recorded:
    """Store and publish one reported event."""
    return await recorder.record(request, correlation_id.get())


@router.endpoint(INGEST_STORE_PAST)
async def store_past(request: StorePast, events: Injected[PastEvents]) -> PastStored:
    """Store events from a backfill."""
    return await events.record(request)


@router.endpoint(INGEST_CONTACT)
async def contact(request: ContactRef, contacts: Injected[ContactStore]) -> Contact:
    """Return what is known about a contact."""
    return await contacts.find(request.user_id)


@router.endpoint(INGEST_CONTACTS)
async def contacts(request: FindContacts, merges: Injected[ContactMerges]) -> ContactList:
    """Find contacts, with the merges into each of them."""
    return await merges.find(request.key)


@router.endpoint(INGEST_LIST_CONTACTS)
async def list_contacts(
    request: ListContacts, directory: Injected[ContactDirectory], link: Injected[Connection]
) -> ContactPage:
    """List contacts in the requested order."""
    max_bytes = link.max_payload - _FRAMING_BYTES
    page = await directory.page(request, max_bytes=max_bytes)
    return _require_fitting(page, page.contacts, max_bytes, "contact")


@router.endpoint(INGEST_TIMELINE)
async def timeline(
    request: ListTimeline, timelines: Injected[TimelineReader], link: Injected[Connection]
) -> Timeline:
    """List the events of a contact, newest first."""
    max_bytes = link.max_payload - _FRAMING_BYTES
    page = await timelines.page(request, max_bytes=max_bytes)
    return _require_fitting(page, page.timeline, max_bytes, "event")


@router.endpoint(INGEST_OVERVIEW)
async def overview(_request: GetOverview, reader: Injected[OverviewReader]) -> Overview:
    """Count contacts, events and reported emails."""
    return await reader.read()


@router.endpoint(INGEST_RECORD_CONTACT)
async def record_contact(
    request: RecordContact, recorder: Injected[ContactRecorder]
) -> ContactRecorded:
    """Store what a service reports about a person, and publish it as an event."""
    return await recorder.record(request, correlation_id.get())


@router.endpoint(INGEST_SPLIT)
async def split_contacts(request: SplitContacts, merges: Injected[ContactMerges]) -> ContactList:
    """Undo a merge."""
    return await merges.split(request.merge_id)


@router.endpoint(INGEST_ERASE)
async def erase_contact(
    request: EraseContact, jobs: Injected[ErasureJobs], worker: Injected[ErasureWorker]
) -> Erasure:
    """Erase a person from PostgreSQL and from every stream."""
    erasure = await jobs.request(request.contact_id)
    worker.wake()
    return erasure


@router.endpoint(INGEST_EXPORT)
async def export_contact(request: ExportContact, exporter: Injected[Exporter]) -> ExportPage:
    """Return a page of everything about one person."""
    return await exporter.page(request)


@router.endpoint(INGEST_FILL_TIMEZONE)
async def fill_timezone(request: FillTimezone, contacts: Injected[ContactStore]) -> Empty:
    """Set the time zone of a contact without one."""
    await contacts.fill_timezone(request.user_id, request.timezone)
    return Empty()


@router.endpoint(INGEST_DEAD_LETTERS)
async def dead_letters(
    request: ListDeadLetters, admin: Injected[DeadLetterAdmin]
) -> DeadLetterPage:
    """List dead letters, newest first."""
    return await admin.page(request)


@router.endpoint(INGEST_REPLAY)
async def replay(request: ReplayDeadLetters, replayer: Injected[Replayer]) -> DeadLettersDone:
    """Publish the messages of dead letters again, on the streams they came from."""
    return await replayer.replay(request)


@router.endpoint(INGEST_PURGE)
async def purge(request: PurgeDeadLetters, admin: Injected[DeadLetterAdmin]) -> DeadLettersDone:
    """Delete dead letters."""
    return await admin.purge(request)


@router.endpoint(INGEST_TOLD)
async def notified_problems(_request: Empty, claims: Injected[NoticeClaims]) -> ToldProblems:
    """List the problems that the operator was notified of."""
    return await claims.notified()


@router.endpoint(INGEST_CLAIM_NOTICE)
async def claim_notice(request: ClaimNotice, claims: Injected[NoticeClaims]) -> ClaimedNotice:
    """Decide which gateway notifies the operator of a problem."""
    return await claims.claim(request)


@router.endpoint(INGEST_AUDIT)
async def audit(request: ListAudit, trail: Injected[AuditTrail]) -> AuditPage:
    """List the audit trail, newest first."""
    return await trail.page(request)


@router.endpoint(INGEST_HEALTH)
async def health(_request: Empty, reporter: Injected[HealthReporter]) -> ServiceHealth:
    """Report this replica's health."""
    return await reporter.report()


def _require_fitting(page: Page, entries: Sequence[Message], max_bytes: int, what: str) -> Page:
    # A page has its first entry however large it is. One that is too large is the only entry.
    if len(entries) != 1 or len(msgspec.json.encode(entries[0])) <= max_bytes:
        return page
    after: str | None = getattr(page, "next_before", None)
    next_page = f"before={after}" if after else f"offset={page.offset + 1}"
    raise InvalidRequest(
        f"the first {what} of this page alone does not fit into a reply; continue with {next_page}"
    )
