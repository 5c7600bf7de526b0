"""The provisioner's handlers on FastStream's test broker: no server, real routing and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from faststream import FastStream
from faststream.nats import TestNatsBroker

from hogsend.contract import subjects
from hogsend.contract.base import Empty
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import Unavailable
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    PROVISIONER_PROJECTS,
    PROVISIONER_PROVISION,
    ProvisionLoop,
)
from hogsend.contract.registry import endpoints
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.database import Database
from hogsend.service.health import HealthReporter
from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from services.provisioner.app import MIGRATIONS, Parts, build_parts, create_app
from services.provisioner.backfill.backfills import Backfills
from services.provisioner.backfill.posthog_events import PostHogEvents
from services.provisioner.backfill.store import BackfillStore
from services.provisioner.granted_projects import ProjectNames
from services.provisioner.handlers import router
from services.provisioner.settings import ProvisionerSettings
from tests.destinations import PUBLIC_URL, WEBHOOK_URL, compliant
from tests.messages import credential_change
from tests.offline_broker import ask, offline_broker
from tests.unit.provisioner.fakes import POSTHOG_URL, FakeLink, InMemoryProvisioner, compose
from tests.waiting import eventually

CHANGE = credential_change(7)


@pytest.fixture
def provisioner() -> InMemoryProvisioner:
    return compose()


@pytest.fixture
def watcher() -> CredentialWatcher:
    return CredentialWatcher("posthog")


@pytest.fixture
async def broker(
    provisioner: InMemoryProvisioner, watcher: CredentialWatcher
) -> AsyncIterator[ServiceBroker]:
    broker = offline_broker(User.PROVISIONER)
    broker.provide(
        provisioner.provisioning,
        provisioner.diagnostics,
        backfills_of(provisioner),
        ProjectNames(provisioner.instance, provisioner.credentials, provisioner.http),
        HealthReporter(User.PROVISIONER, unconnected(), lambda: 7),
        watcher,
    )
    broker.include(router)
    async with TestNatsBroker(broker):
        yield broker


def backfills_of(provisioner: InMemoryProvisioner) -> Backfills:
    past = PostHogEvents(provisioner.instance, provisioner.credentials, provisioner.http)
    return Backfills(BackfillStore(unconnected()), past, lambda: None)


def unconnected() -> Database:
    return Database("postgresql://127.0.0.1:1/none", "provisioner", MIGRATIONS, pool_size=1)


def test_every_endpoint_of_the_contract_has_a_handler() -> None:
    declared = {
        endpoint.subject for endpoint in endpoints() if endpoint.service is User.PROVISIONER
    }
    assert {endpoint.subject for endpoint in router.endpoints} == declared


async def test_provision_runs_and_replies(
    broker: ServiceBroker, provisioner: InMemoryProvisioner
) -> None:
    reply = await ask(broker, PROVISIONER_PROVISION, ProvisionLoop())
    assert reply.refusal is None
    assert reply.provisioned is not None
    assert (reply.provisioned.action, reply.provisioned.webhook_url) == ("created", WEBHOOK_URL)
    assert len(provisioner.posthog.bodies("POST")) == 1


@pytest.mark.parametrize("placeholder", [True, False])
async def test_a_placeholder_is_passed_on(
    broker: ServiceBroker, provisioner: InMemoryProvisioner, placeholder: bool
) -> None:
    reply = await ask(broker, PROVISIONER_PROVISION, ProvisionLoop(placeholder=placeholder))
    assert reply.provisioned is not None
    assert reply.provisioned.enabled is not placeholder


async def test_a_refusal_is_a_reply_and_not_an_error(
    broker: ServiceBroker, provisioner: InMemoryProvisioner
) -> None:
    provisioner.posthog.refuse(".*", ".*", 403)
    reply = await ask(broker, PROVISIONER_PROVISION, ProvisionLoop())
    assert reply.refusal is not None
    assert reply.refusal.code == "missing-scope"
    assert broker.stats.of(PROVISIONER_PROVISION.subject).errors == 0


async def test_a_dependency_that_is_down_is_a_typed_error(
    broker: ServiceBroker, provisioner: InMemoryProvisioner
) -> None:
    provisioner.store.is_down = True
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await ask(broker, PROVISIONER_PROVISION, ProvisionLoop())
    assert broker.stats.of(PROVISIONER_PROVISION.subject).errors == 1


async def test_the_projects_of_the_grant_are_listed(broker: ServiceBroker) -> None:
    # The grant names no project, and PostHog lists none.
    assert (await ask(broker, PROVISIONER_PROJECTS, Empty())).projects == []


async def test_diagnose_reports_every_part(
    broker: ServiceBroker, provisioner: InMemoryProvisioner
) -> None:
    provisioner.posthog.add("fn", **compliant())
    diagnosis = await ask(broker, PROVISIONER_DIAGNOSE, Empty())
    assert diagnosis.private_host == POSTHOG_URL
    assert (diagnosis.destination.state, diagnosis.person_reads.state) == ("live", "working")


async def test_health_carries_the_version_of_the_credential(broker: ServiceBroker) -> None:
    report = await ask(broker, PROVISIONER_HEALTH, Empty())
    assert (report.service, report.credential_version) == ("provisioner", 7)
    newest = max(file.name for file in MIGRATIONS.glob("*.sql")).partition("_")[0]
    assert (report.database.status, report.schema.required) == ("down", newest)


async def test_a_credential_change_reaches_the_watcher(
    broker: ServiceBroker, watcher: CredentialWatcher
) -> None:
    changes: list[CredentialChanged | None] = []
    watcher.on_change(changes.append)
    await broker.publish(CHANGE, subjects.credential_changed("posthog"))
    assert changes == [CHANGE]
    await broker.publish(CHANGE, subjects.credential_changed("another"))
    assert changes == [CHANGE]


async def test_the_app_provides_every_dependency_of_the_handlers() -> None:
    broker = offline_broker(User.PROVISIONER)
    parts = build_parts(
        broker.link,
        unconnected(),
        httpx.AsyncClient(),
        posthog=PostHogSettings(posthog_private_host=POSTHOG_URL, posthog_webhook_secret="s"),
        public=PublicUrlSettings(api_public_url=PUBLIC_URL),
        settings=ProvisionerSettings(),
    )
    create_app(broker, parts)
    async with TestNatsBroker(broker):
        diagnosis = await ask(broker, PROVISIONER_DIAGNOSE, Empty())
        with pytest.raises(Unavailable):
            await ask(broker, PROVISIONER_PROVISION, ProvisionLoop())
    assert (diagnosis.private_host, diagnosis.public_url.url) == (POSTHOG_URL, PUBLIC_URL)
    assert (diagnosis.credential.state, diagnosis.webhook_secret.state) == ("unknown", "present")


def app_over(link: FakeLink) -> tuple[FastStream, Parts]:
    broker = ServiceBroker(User.PROVISIONER, link)
    parts = build_parts(
        link,
        unconnected(),
        httpx.AsyncClient(),
        posthog=PostHogSettings(),
        public=PublicUrlSettings(api_public_url=PUBLIC_URL),
        settings=ProvisionerSettings(),
    )
    return create_app(broker, parts), parts


async def test_the_app_requests_the_credential_at_startup() -> None:
    app, parts = app_over(FakeLink())
    async with app.lifespan_context():
        await eventually(lambda: parts.credentials.version == 1)


async def test_a_reconnection_counts_as_a_credential_change() -> None:
    link = FakeLink()
    _app, parts = app_over(link)
    await parts.credentials.cached_bearer(1)
    await link._on_reconnect()
    await eventually(lambda: parts.credentials.version == 2)


def test_the_migrations_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in Path(MIGRATIONS).glob("*.sql"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
