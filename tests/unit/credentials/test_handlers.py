"""Every endpoint of the service, over FastStream's test broker and without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest
from faststream.nats import TestNatsBroker

from hogsend.contract.base import Empty
from hogsend.contract.credentials import (
    CREDENTIALS_DELETE,
    CREDENTIALS_GET,
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PROJECT,
    CREDENTIALS_PUT,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_SIGNING_SECRET,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
    CREDENTIALS_WEBHOOK_SECRET,
    Deleted,
    DerivedPayload,
    ProviderRef,
    PutCredential,
    PutDerived,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import CannotUnseal, InvalidRequest, NotFound, Unavailable
from hogsend.contract.health import CREDENTIALS_HEALTH
from hogsend.contract.permissions import permissions
from hogsend.contract.registry import endpoints
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.health import HealthReporter
from services.credentials.app import MIGRATIONS
from services.credentials.handlers import router
from tests.offline_broker import ask, offline_broker
from tests.unit.credentials.conftest import Driver, Replica

POSTHOG = ProviderRef(provider_id="posthog")
DERIVED = DerivedPayload(webhook_secret="minted", project_api_key="phc_1", project_id="7")


@pytest.fixture
async def broker(replica: Replica) -> AsyncIterator[ServiceBroker]:
    broker = offline_broker(User.CREDENTIALS)
    database = Database("postgresql://127.0.0.1/none", "credentials", MIGRATIONS, pool_size=1)
    broker.provide(
        replica.credentials,
        replica.authorizations,
        replica.resolver,
        HealthReporter(User.CREDENTIALS, database),
    )
    broker.include(router)
    async with TestNatsBroker(broker):
        yield broker


def test_every_endpoint_of_the_contract_has_a_handler() -> None:
    declared = {
        endpoint.subject for endpoint in endpoints() if endpoint.service == User.CREDENTIALS
    }
    assert {endpoint.subject for endpoint in router.endpoints} == declared


async def test_a_grant_is_put_described_and_deleted(broker: ServiceBroker, driver: Driver) -> None:
    grant = driver.grant(left=3600)
    meta = await ask(broker, CREDENTIALS_PUT, PutCredential("posthog", grant))
    assert await driver.stored() == grant
    assert await ask(broker, CREDENTIALS_GET, POSTHOG) == meta
    status = await ask(broker, CREDENTIALS_STATUS, POSTHOG)
    assert (status.oauth, status.scopes) == ("present", grant.scopes)
    assert await ask(broker, CREDENTIALS_DELETE, POSTHOG) == Deleted(deleted=True)
    with pytest.raises(NotFound, match="Provider credential not found"):
        await ask(broker, CREDENTIALS_GET, POSTHOG)
    assert [change.change for change in driver.stream.changes] == ["stored", "deleted"]


async def test_each_service_gets_only_its_part_of_the_derived_payload(
    broker: ServiceBroker,
) -> None:
    status = await ask(broker, CREDENTIALS_PUT_DERIVED, PutDerived("posthog", DERIVED))
    assert status.webhook_secret == "present"
    assert (await ask(broker, CREDENTIALS_GET_DERIVED, POSTHOG)).payload == DERIVED
    assert (await ask(broker, CREDENTIALS_SIGNING_SECRET, POSTHOG)).state == "absent"
    project = await ask(broker, CREDENTIALS_PROJECT, POSTHOG)
    assert (project.project_id, project.project_api_key) == ("7", "phc_1")
    secret = await ask(broker, CREDENTIALS_WEBHOOK_SECRET, POSTHOG)
    assert (secret.state, secret.sha256) == ("present", token_digest("minted"))


async def test_a_rejected_token_is_refreshed(broker: ServiceBroker, driver: Driver) -> None:
    await driver.put(driver.grant(left=3600))
    reply = await ask(broker, CREDENTIALS_TOKEN, TokenRequest("posthog"))
    assert (reply.source, reply.token) == ("oauth", "pha_0")
    rejected = TokenRequest("posthog", rejected_sha256=token_digest("pha_0"))
    assert (await ask(broker, CREDENTIALS_TOKEN, rejected)).token == "pha_1"


async def test_an_error_keeps_its_type_over_the_bus(broker: ServiceBroker, driver: Driver) -> None:
    bad = driver.grant(left=3600, token_endpoint="http://us.posthog.com/oauth/token/")
    with pytest.raises(InvalidRequest, match="must be https"):
        await ask(broker, CREDENTIALS_PUT, PutCredential("posthog", bad))
    with pytest.raises(InvalidRequest):
        await ask(broker, CREDENTIALS_GET, ProviderRef(provider_id=""))
    await driver.replica(secret="lost").credentials.put_oauth("posthog", driver.grant(left=3600))
    with pytest.raises(CannotUnseal, match="BETTER_AUTH_SECRET_PREVIOUS"):
        await ask(broker, CREDENTIALS_GET, POSTHOG)
    driver.store.available = False
    with pytest.raises(Unavailable, match="PostgreSQL is not available"):
        await ask(broker, CREDENTIALS_STATUS, POSTHOG)


async def test_health_reports_that_the_database_is_down(broker: ServiceBroker) -> None:
    health = await ask(broker, CREDENTIALS_HEALTH, Empty())
    assert (health.service, health.database.status) == ("credentials", "down")


async def test_the_gateway_gets_the_signing_keys_and_nothing_else(
    broker: ServiceBroker,
) -> None:
    until = datetime(2026, 1, 1, tzinfo=UTC)
    stored = msgspec.structs.replace(
        DERIVED,
        signing_secret="whsec_now",
        signing_secret_previous="whsec_before",
        signing_previous_until=until,
    )
    await ask(broker, CREDENTIALS_PUT_DERIVED, PutDerived("posthog", stored))
    reply = await ask(broker, CREDENTIALS_SIGNING_SECRET, POSTHOG)
    assert (reply.state, reply.secret, reply.previous) == ("present", "whsec_now", "whsec_before")
    assert reply.previous_until == until
    assert "whsec" not in repr(reply)
    assert "minted" not in msgspec.json.encode(reply).decode()
    only_before = msgspec.structs.replace(stored, signing_secret=None)
    await ask(broker, CREDENTIALS_PUT_DERIVED, PutDerived("posthog", only_before))
    reply = await ask(broker, CREDENTIALS_SIGNING_SECRET, POSTHOG)
    assert (reply.state, reply.secret, reply.previous) == ("present", None, "whsec_before")


def test_only_the_gateway_may_request_the_signing_keys() -> None:
    subject = CREDENTIALS_SIGNING_SECRET.subject
    assert [user for user in User if subject in permissions(user).publish] == [User.GATEWAY]
