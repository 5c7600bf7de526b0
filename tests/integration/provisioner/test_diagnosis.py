"""The diagnosis over HTTP; its parts are checked without servers in tests/unit/provisioner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hogsend.contract.credentials import CREDENTIALS_STATUS, CredentialStatus, ProviderRef
from hogsend.contract.users import User
from hogsend.service.router import ServiceRouter
from tests.destinations import WEBHOOK_URL, compliant
from tests.integration.harness import (
    Gateway,
    admin,
    answering,
    gateway_service,
    provisioner_service,
)
from tests.integration.provisioner.driver import DIAGNOSIS, WITH_SECRET, Driver
from tests.posthog_recorder import Recorder
from tests.servers import Servers


async def test_everything_works(driver: Driver) -> None:
    driver.posthog.add("fn", **compliant())
    found = await driver.diagnose()
    assert set(found) == {
        "privateHost",
        "credential",
        "personReads",
        "webhookSecret",
        "destination",
        "scopeGap",
        "publicUrl",
        "signatures",
    }
    assert found["privateHost"] == driver.posthog.url
    assert (found["credential"]["state"], found["credential"]["refreshFailing"]) == (
        "present",
        False,
    )
    # Analytics, which would read them, does not run here.
    assert (found["personReads"]["state"], found["personReads"]["through"]) == ("unknown", "oauth")
    assert found["personReads"]["detail"].startswith("PostHog allows person reads.")
    assert (found["webhookSecret"]["state"], found["webhookSecret"]["source"]) == (
        "present",
        "environment",
    )
    assert found["destination"] == {
        "state": "live",
        "stopped": False,
        "hogFunctionId": "fn",
        "webhookUrl": WEBHOOK_URL,
        "dashboardUrl": f"{driver.posthog.url}/project/199032/pipeline/destinations/hog-fn/"
        "configuration",
        "others": [],
        "duplicates": [],
        "signed": False,
        "unsignedBecause": "unsupported",
        "detail": None,
        "remediation": None,
    }
    assert found["signatures"]["state"] == "unsigned"
    assert "organization:read" in found["scopeGap"]
    assert "person:read" not in found["scopeGap"]
    assert found["publicUrl"]["loopback"] is False
    assert {request.method for request in driver.posthog.requests} == {"GET"}


router = ServiceRouter()


@router.endpoint(CREDENTIALS_STATUS)
async def status(_request: ProviderRef) -> CredentialStatus:
    return CredentialStatus(
        version=1,
        oauth="present",
        scopes=["person:read"],
        webhook_secret="absent",
        expires_at=datetime(2026, 6, 13, 4, tzinfo=UTC),
        needs_reconnect=True,
    )


@pytest.fixture
async def alone(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """Gateway and provisioner, without the credentials service."""
    environment = {"posthog_private_host": posthog.url, **WITH_SECRET}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(provisioner_service(servers, database_url, posthog=environment))
        yield await enter(gateway_service(servers, tmp_path, posthog=environment))


async def test_without_the_credentials_service_the_rest_is_reported(
    servers: Servers, alone: Gateway
) -> None:
    answer = await alone.http.get(DIAGNOSIS, headers=admin())
    found = answer.json()
    assert answer.status_code == 200
    assert found["credential"]["state"] == "unknown"
    assert found["personReads"]["state"] == "unknown"
    assert found["webhookSecret"]["state"] == "present"
    assert found["destination"]["state"] == "unknown"
    assert "hogsend status" in found["credential"]["remediation"]
    async with answering(servers, User.CREDENTIALS, router):
        credential = (await alone.http.get(DIAGNOSIS, headers=admin())).json()["credential"]
    assert (credential["state"], credential["refreshFailing"]) == ("needs_reconnect", True)
    assert credential["expiresAt"] == "2026-06-13T04:00:00.000Z"
