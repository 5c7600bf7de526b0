"""Builds the ingest service from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faststream import FastStream

from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.contract.users import User
from hogsend.service import telemetry
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker, service_broker
from hogsend.service.database import Database
from hogsend.service.dead_letters import DeadLetters
from hogsend.service.health import HealthReporter
from hogsend.service.heartbeat import touch_periodically
from hogsend.service.retention import Retention
from hogsend.service.settings.shared import (
    BusSettings,
    DatabaseSettings,
    PartitionSettings,
    TelemetrySettings,
)
from hogsend.service.tasks import Work
from services.ingest import handlers, jetstream_disk, oldest_webhook
from services.ingest.audit import AuditTrail
from services.ingest.consumer_api.requests import ConsumerRequests
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.lookup import ContactStore
from services.ingest.contacts.merges import ContactMerges
from services.ingest.contacts.overview import OverviewReader
from services.ingest.contacts.search import search_indexes
from services.ingest.contacts.timeline import TimelineReader
from services.ingest.dead_letters.admin import DeadLetterAdmin
from services.ingest.dead_letters.replay import Replayer
from services.ingest.dead_letters.stream import DeadLetterStream
from services.ingest.engagement_readers import KnownReaders
from services.ingest.engagement_retention import EngagementRetention
from services.ingest.erasure.jobs import SETTLE_SECONDS, ErasureJobs
from services.ingest.erasure.worker import ErasureWorker
from services.ingest.event_table.contact_index import contact_index
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.contact_recording import ContactRecorder
from services.ingest.events.event_processor import EventProcessor
from services.ingest.events.listing import EventList
from services.ingest.events.past_events import PastEvents
from services.ingest.events.recording import Recorder
from services.ingest.events.store import EventStore
from services.ingest.events.trace import EventTraces
from services.ingest.export.exporter import Exporter
from services.ingest.metrics import activity
from services.ingest.notices import NoticeClaims
from services.ingest.partitions.sharing import PACE, Pace, Partitions
from services.ingest.replay.replayer import EventReplayer
from services.ingest.settings import IngestSettings
from services.ingest.shared_account import warn_of_shared_account

MIGRATIONS = Path(__file__).with_name("migrations")


def create_app(
    broker: ServiceBroker,
    database: Database,
    *,
    batch_size: int,
    background: Sequence[Work] = (),
    limits: Limits = DEFAULT_LIMITS,
    settle_seconds: float = SETTLE_SECONDS,
    partitions: int = 1,
    pace: Pace = PACE,
    event_retention_days: int = 0,
) -> FastStream:
    """Build the service on a broker and a database, both of which may connect later.

    Args:
        broker: of this replica.
        database: PostgreSQL; it is closed when the service has stopped.
        batch_size: most messages of a stream in one transaction.
        background: further background tasks.
        limits: the operator's limits of streams.
        settle_seconds: pause between two sweeps of an erasure.
        partitions: number of partitions of webhooks. Each is consumed in order; with one partition
            no order is kept.
        pace: intervals and timeouts of sharing the partitions.
        event_retention_days: how long events are kept; 0 is forever.
    """
    table = EventTable(database, retention_days=event_retention_days)
    events = EventStore(database, table)
    listed = EventList(database)
    directory = ContactDirectory(database)
    recorder = Recorder(events, broker.link.publisher)
    dead_letters = DeadLetters(broker.link.publisher, "ingest")
    letters = DeadLetterStream(broker.link)
    admin = DeadLetterAdmin(letters)
    erasures = ErasureJobs(database, settle_seconds=settle_seconds)
    eraser = ErasureWorker(erasures, broker.link, broker.link.publisher)
    event_replayer = EventReplayer(database, broker.link, broker.link.publisher)
    broker.provide(
        erasures,
        eraser,
        listed,
        EventProcessor(events, broker.link.publisher, dead_letters),
        EventTraces(database, listed, broker.link),
        recorder,
        ContactRecorder(directory, recorder),
        directory,
        TimelineReader(database),
        OverviewReader(database),
        Exporter(database, broker.link),
        PastEvents(events, broker.link.publisher),
        ContactStore(database),
        ContactMerges(database),
        AuditTrail(database, dead_letters),
        NoticeClaims(database),
        admin,
        Replayer(broker.link.publisher, letters, admin),
        event_replayer,
        HealthReporter("ingest", database),
        ConsumerRequests(broker.link),
        broker.link,
    )
    router = broker.include(handlers.router, activity=activity)
    in_order = router.batch_subscriber(handlers.webhooks_in_order)
    for handler in (handlers.webhooks, handlers.engagement, handlers.audit_entries):
        router.batch_subscriber(handler).batch = batch_size
    in_order.batch = batch_size
    shared = Partitions(broker, in_order, partitions, pace=pace, limits=limits)
    broker.provide(shared)

    return service_app(
        broker,
        database=database,
        background=[
            EngagementRetention(broker.link, KnownReaders(broker.link, database)).keep_trimmed,
            eraser.start_forever,
            eraser.sweep_forever,
            table.maintain_forever,
            *(retention.sweep_periodically for retention in table.retentions()),
            *(index.ensure_built for index in (contact_index(database), *search_indexes(database))),
            event_replayer.tidy_forever,
            lambda: jetstream_disk.measure_forever(broker.link),
            lambda: oldest_webhook.measure_forever(broker.link),
            shared.run,
            *background,
        ],
        connected=[lambda: warn_of_shared_account(broker.link)],
        stopping=[shared.stop],
        limits=limits,
    )


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    settings, telemetry_settings = IngestSettings(), TelemetrySettings()
    nats, postgres, partitions = BusSettings(), DatabaseSettings(), PartitionSettings()
    async with telemetry.reporting(User.INGEST, telemetry_settings):
        database = Database.of(postgres, "ingest", MIGRATIONS)
        audit_days = settings.audit_retention_days
        app = create_app(
            service_broker(User.INGEST, nats),
            database,
            batch_size=settings.ingest_batch_size,
            background=[
                lambda: touch_periodically(telemetry_settings.health_file),
                Retention(database, "audit", column="at", days=audit_days).sweep_periodically,
            ],
            limits=nats.stream_limits,
            partitions=partitions.ingest_partitions,
            event_retention_days=settings.event_retention_days,
        )
        await app.run()
