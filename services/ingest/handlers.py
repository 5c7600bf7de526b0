"""What ingest consumes, answers and publishes: events, contacts, dead letters, the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from nats.aio.msg import Msg

from hogsend.contract.audit import ADMIN_REQUEST_AUDITED, INGEST_AUDIT, AuditPage, ListAudit
from hogsend.contract.backfills import INGEST_STORE_PAST, PastStored, StorePast
from hogsend.contract.base import Empty, Message
from hogsend.contract.consumers import ANSWERED_BY, REQUESTS
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
"""More than the headers of a reply take, and what a page has besides its entries."""

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
    """Store and publish a batch of engagement, as events of Hogsend's own."""
    await processor.process(messages, decode_engagement)


@router.batches(StreamName.AUDIT, AUDIT_CONSUMER, on_nak=metrics.NAKS.inc)
async def audit_entries(messages: list[Msg], trail: Injected[AuditTrail]) -> None:
    """Store a batch of the audit trail."""
    await trail.process(messages)


@router.raw_requests(f"{REQUESTS}.>", queue=ANSWERED_BY)
async def consumers(request: RawRequest, requests: Injected[ConsumerRequests]) -> bytes:
    """Make or delete a consumer of other people's services, as JetStream's API would."""
    return await requests.reply_to(request.subject.removeprefix(f"{REQUESTS}."), request.body)


@router.endpoint(INGEST_EVENTS)
async def events(
    wanted: ListEvents, stored: Injected[EventList], link: Injected[Connection]
) -> EventPage:
    """List stored events, newest first."""
    room = link.max_payload - _FRAMING_BYTES
    page = await stored.page(wanted, room=room)
    return _fitting(page, page.events, room, "event")


@router.endpoint(INGEST_REPLAY_EVENTS)
async def replay_events(wanted: ReplayEvents, replayer: Injected[EventReplayer]) -> EventsReplayed:
    """Deliver events to one durable again, a part of them."""
    return await replayer.replay(wanted)


@router.endpoint(INGEST_EVENT_TRACE)
async def event_trace(wanted: TraceEvent, traces: Injected[EventTraces]) -> EventTrace:
    """Say what became of one event."""
    return await traces.trace(wanted)


@router.endpoint(INGEST_RECORD)
async def record(reported: RecordEvent, recorder: Injected[Recorder]) -> Recorded:
    """Store and publish one reported event."""
    return await recorder.record(reported, correlation_id.get())


@router.endpoint(INGEST_STORE_PAST)
async def store_past(past: StorePast, events: Injected[PastEvents]) -> PastStored:
    """Store events of the past."""
    return await events.record(past)


@router.endpoint(INGEST_CONTACT)
async def contact(wanted: ContactRef, contacts: Injected[ContactStore]) -> Contact:
    """Return what is known about a contact."""
    return await contacts.find(wanted.user_id)


@router.endpoint(INGEST_CONTACTS)
async def contacts(wanted: FindContacts, merges: Injected[ContactMerges]) -> ContactList:
    """Find contacts and the merges they come from."""
    return await merges.find(wanted.key)


@router.endpoint(INGEST_LIST_CONTACTS)
async def list_contacts(
    wanted: ListContacts, directory: Injected[ContactDirectory], link: Injected[Connection]
) -> ContactPage:
    """List contacts, in the order asked for."""
    room = link.max_payload - _FRAMING_BYTES
    page = await directory.page(wanted, room=room)
    return _fitting(page, page.contacts, room, "contact")


@router.endpoint(INGEST_TIMELINE)
async def timeline(
    wanted: ListTimeline, directory: Injected[ContactDirectory], link: Injected[Connection]
) -> Timeline:
    """List what happened to a contact, the latest first."""
    room = link.max_payload - _FRAMING_BYTES
    page = await directory.timeline(wanted, room=room)
    return _fitting(page, page.timeline, room, "event")


@router.endpoint(INGEST_OVERVIEW)
async def overview(_wanted: GetOverview, directory: Injected[ContactDirectory]) -> Overview:
    """Count contacts, events and reported emails."""
    return await directory.overview()


@router.endpoint(INGEST_RECORD_CONTACT)
async def record_contact(
    known: RecordContact, recorder: Injected[ContactRecorder]
) -> ContactRecorded:
    """Store and announce what is known about a person."""
    return await recorder.record(known, correlation_id.get())


@router.endpoint(INGEST_SPLIT)
async def split_contacts(wanted: SplitContacts, merges: Injected[ContactMerges]) -> ContactList:
    """Undo a merge."""
    return await merges.split(wanted.merge_id)


@router.endpoint(INGEST_ERASE)
async def erase_contact(
    wanted: EraseContact, jobs: Injected[ErasureJobs], worker: Injected[ErasureWorker]
) -> Erasure:
    """Erase a person, here and on every stream."""
    erasure = await jobs.request(wanted.contact_id)
    worker.wake()
    return erasure


@router.endpoint(INGEST_EXPORT)
async def export_contact(wanted: ExportContact, exporter: Injected[Exporter]) -> ExportPage:
    """Give a page of everything about one person."""
    return await exporter.page(wanted)


@router.endpoint(INGEST_FILL_TIMEZONE)
async def fill_timezone(found: FillTimezone, contacts: Injected[ContactStore]) -> Empty:
    """Set the time zone of a contact that has none."""
    await contacts.fill_timezone(found.user_id, found.timezone)
    return Empty()


@router.endpoint(INGEST_DEAD_LETTERS)
async def dead_letters(wanted: ListDeadLetters, admin: Injected[DeadLetterAdmin]) -> DeadLetterPage:
    """List dead letters, newest first."""
    return await admin.page(wanted)


@router.endpoint(INGEST_REPLAY)
async def replay(wanted: ReplayDeadLetters, replayer: Injected[Replayer]) -> DeadLettersDone:
    """Publish the messages of dead letters again, on the streams they came from."""
    return await replayer.replay(wanted)


@router.endpoint(INGEST_PURGE)
async def purge(wanted: PurgeDeadLetters, admin: Injected[DeadLetterAdmin]) -> DeadLettersDone:
    """Delete dead letters."""
    return await admin.purge(wanted)


@router.endpoint(INGEST_TOLD)
async def told(_wanted: Empty, claims: Injected[NoticeClaims]) -> ToldProblems:
    """Give the problems the operator knows of."""
    return await claims.told()


@router.endpoint(INGEST_CLAIM_NOTICE)
async def claim_notice(wanted: ClaimNotice, claims: Injected[NoticeClaims]) -> ClaimedNotice:
    """Decide which gateway tells the operator of a problem."""
    return await claims.claim(wanted)


@router.endpoint(INGEST_AUDIT)
async def audit(wanted: ListAudit, trail: Injected[AuditTrail]) -> AuditPage:
    """List the audit trail, newest first."""
    return await trail.page(wanted)


@router.endpoint(INGEST_HEALTH)
async def health(_request: Empty, reporter: Injected[HealthReporter]) -> ServiceHealth:
    """Report this replica's health."""
    return await reporter.report()


def _fitting(page: Page, entries: Sequence[Message], room: int, what: str) -> Page:
    # The first entry is there however large it is, and alone then.
    if len(entries) != 1 or len(msgspec.json.encode(entries[0])) <= room:
        return page
    behind: str | None = getattr(page, "next_before", None)
    following = f"before={behind}" if behind else f"offset={page.offset + 1}"
    raise InvalidRequest(
        f"the first {what} of this page alone does not fit into an answer; go on with {following}"
    )
