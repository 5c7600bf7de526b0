"""Builds the ingest service from its settings."""

from __future__ import annotations

from pathlib import Path

from hogsend.contract.streams import AUDIT_CONSUMER, ENGAGEMENT_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.service import logs, metrics
from hogsend.service.database import Database
from hogsend.service.heartbeat import touch_forever
from hogsend.service.serving import run_service, service_bus
from hogsend.service.settings import BusSettings, DatabaseSettings, TelemetrySettings
from services.ingest.consuming import consume_forever
from services.ingest.handlers import Handlers
from services.ingest.settings import IngestSettings

MIGRATIONS = Path(__file__).with_name("migrations")

WORKERS = 4
"""Batches in hand at a time: while some wait for PostgreSQL, others are decoded or published."""
ENGAGEMENT_WORKERS = 2


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    telemetry, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    ingest = IngestSettings()
    logs.configure("ingest", telemetry)
    metrics.serve(telemetry.metrics_host, telemetry.metrics_port)

    database = Database.of(postgres, "ingest", MIGRATIONS)
    bus = service_bus(User.INGEST, nats)
    handlers = Handlers(bus, database)
    await run_service(
        bus,
        User.INGEST,
        handlers=handlers.all(),
        background=[
            touch_forever(telemetry.health_file),
            database.keep_connected(),
            consume_forever(
                bus, handlers.webhooks, batch_size=ingest.ingest_batch_size, workers=WORKERS
            ),
            consume_forever(
                bus,
                handlers.engagement,
                batch_size=ingest.ingest_batch_size,
                workers=ENGAGEMENT_WORKERS,
                stream=StreamName.ENGAGEMENT,
                consumer=ENGAGEMENT_CONSUMER,
            ),
            consume_forever(
                bus,
                handlers.audit_entries,
                batch_size=ingest.ingest_batch_size,
                workers=1,
                stream=StreamName.AUDIT,
                consumer=AUDIT_CONSUMER,
            ),
        ],
        limits=nats.stream_limits,
    )
    await database.close()
