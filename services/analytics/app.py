"""Builds the analytics service from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import httpx
from faststream import FastStream

from hogsend.contract.credentials import POSTHOG
from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.contract.users import User
from hogsend.posthog.capture import CaptureApi
from hogsend.service import telemetry
from hogsend.service.app import service_app
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.broker import ServiceBroker, service_broker
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.database import Database
from hogsend.service.dead_letters import DeadLetters
from hogsend.service.health import HealthReporter
from hogsend.service.heartbeat import touch_periodically
from hogsend.service.http import http_client
from hogsend.service.retention import Retention
from hogsend.service.settings.shared import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PostHogSettings,
    TelemetrySettings,
)
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.tasks import Work
from services.analytics.capabilities import CapabilityReport
from services.analytics.conditions.evaluation import Conditions
from services.analytics.delivery.destination_cache import DestinationCache
from services.analytics.delivery.destination_consumers import DestinationConsumers
from services.analytics.delivery.failing import FailingConsumers
from services.analytics.delivery.jetstream import JetStreams
from services.analytics.delivery.leader_election import LeaderElection
from services.analytics.delivery.metrics import activity
from services.analytics.delivery.positions import PositionStore
from services.analytics.delivery.runner import DeliveryRunner
from services.analytics.delivery.sources.built_in import built_in_sources
from services.analytics.delivery.sources.destination import DestinationSource
from services.analytics.delivery.sources.source import Source
from services.analytics.delivery.write_listener import WriteListener
from services.analytics.delivery.write_recorder import WriteRecorder
from services.analytics.destinations.service import DestinationService
from services.analytics.destinations.store import DestinationStore
from services.analytics.flags.reader import FlagReader
from services.analytics.handlers import DELIVERIES, router
from services.analytics.persons.access import PersonAccess
from services.analytics.persons.contacts import Contacts
from services.analytics.persons.own_writes import OwnWrites
from services.analytics.persons.private_host import PrivateHost
from services.analytics.persons.project_ids import ProjectIds
from services.analytics.persons.read_trial import ReadTrial
from services.analytics.persons.reader import PersonReader
from services.analytics.persons.timezones import Timezones
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings
from services.analytics.stored_project import StoredProject

MIGRATIONS = Path(__file__).with_name("migrations")


def create_app(
    broker: ServiceBroker,
    database: Database,
    http: httpx.AsyncClient,
    egress: EgressPolicy,
    *,
    posthog: PostHogSettings,
    settings: AnalyticsSettings,
    limits: Limits = DEFAULT_LIMITS,
    background: Sequence[Work] = (),
) -> FastStream:
    """Build the service.

    Args:
        broker: the broker, not connected yet.
        database: the service's schema; connected while the service runs.
        http: client for PostHog.
        egress: which hosts a destination may name.
        posthog: settings of PostHog.
        settings: settings of this service.
        limits: limits of the streams.
        background: tasks that run while the service does.
    """
    link, own = broker.link, broker.include(router, activity=activity)

    watcher = CredentialWatcher(POSTHOG)
    link.on_reconnect(watcher.reconnected)
    bearers, stored = BearerCache(link, watcher), StoredProject(link, watcher)
    project_key = ProjectKey(posthog, stored)

    contacts = Contacts(link)
    writes = OwnWrites()
    store = DestinationStore(database)
    enabled = settings.enable_posthog_destination

    async def destination_sources() -> list[Source]:
        return [
            DestinationSource(destination, project_key, store, default_enabled=enabled)
            for destination in await store.all()
        ]

    built_in = built_in_sources(project_key, settings)
    recorder = WriteRecorder(
        writes,
        project_key,
        built_in,
        DestinationCache(destination_sources),
    )
    access = PersonAccess(
        bearers,
        PrivateHost(posthog, stored),
        ProjectIds(posthog.posthog_project_id, watcher),
        http,
        watcher,
    )
    persons = PersonReader(bearers, access, watcher, writes=writes)
    trial = ReadTrial(bearers, access, watcher)

    failing = FailingConsumers(database, (source.subscription.durable for source in built_in))
    streams = JetStreams(broker, map(own.batch_subscriber, DELIVERIES), PositionStore(database))
    delivery = DeliveryRunner(
        streams=streams,
        capture=CaptureApi(http, seconds=settings.outbound_webhook_timeout_ms / 1000),
        project_key=project_key,
        store=store,
        recorder=recorder,
        settings=settings,
        failing=failing,
    )
    election = LeaderElection(database, delivery.run)

    broker.provide(
        watcher,
        persons,
        Timezones(persons, contacts, settings.default_timezone),
        Conditions(persons, contacts),
        FlagReader(link, project_key, http),
        DestinationService(
            link,
            DestinationConsumers(streams),
            store,
            egress,
            project_key.host,
            max_destinations=settings.max_destinations,
        ),
        delivery,
        failing,
        store,
        DeadLetters(broker.link.publisher, User.ANALYTICS),
        CapabilityReport(trial, project_key, store, destination_enabled=enabled),
        HealthReporter(User.ANALYTICS, database, lambda: bearers.version),
    )
    return service_app(
        broker,
        database=database,
        background=[
            watcher.revalidate,
            persons.log_when_off,
            election.run,
            *background,
        ],
        connected=[WriteListener(link, recorder).listen],
        stopping=[election.stop],
        limits=limits,
    )


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    observed, nats, postgres = TelemetrySettings(), BusSettings(), DatabaseSettings()
    settings, posthog, outbound = AnalyticsSettings(), PostHogSettings(), OutboundSettings()
    egress = EgressPolicy.of(
        outbound.outbound_allow, posthog.posthog_host, posthog.posthog_private_host
    )
    async with (
        telemetry.reporting(User.ANALYTICS, observed),
        http_client(egress, proxies=outbound.proxies) as http,
    ):
        database = Database.of(postgres, "analytics", MIGRATIONS)
        days = settings.delivery_retention_days
        await create_app(
            service_broker(User.ANALYTICS, nats),
            database,
            http,
            egress,
            posthog=posthog,
            settings=settings,
            limits=nats.stream_limits,
            background=[
                partial(touch_periodically, observed.health_file),
                Retention(
                    database, "deliveries", column="finished_at", days=days
                ).sweep_periodically,
            ],
        ).run()
