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
    gateway_service,
    provisioner_service,
    serving,
)
from tests.integration.provisioner.driver import DIAGNOSIS, WITH_SECRET, Driver
from tests.posthog_recorder import Recorder
from tests.servers import Servers


async def test_a_diagnosis_of_a_working_installation_reports_every_part(driver: Driver) -> None:
    driver.posthog.add("fn", **compliant())
    report = await driver.diagnose()
    assert set(report) == {
        "privateHost",
        "credential",
        "personReads",
        "webhookSecret",
        "destination",
        "scopeGap",
        "publicUrl",
        "signatures",
    }
    assert report["privateHost"] == driver.posthog.url
    assert (report["credential"]["state"], report["credential"]["refreshFailing"]) == (
        "present",
        False,
    )
    # Analytics, which reads persons, does not run here.
    assert (report["personReads"]["state"], report["personReads"]["through"]) == (
        "unknown",
        "oauth",
    )
    assert report["personReads"]["detail"].startswith("PostHog allows person reads.")
    assert (report["webhookSecret"]["state"], report["webhookSecret"]["source"]) == (
        "present",
        "environment",
    )
    assert report["destination"] == {
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
    assert report["signatures"]["state"] == "unsigned"
    assert "organization:read" in report["scopeGap"]
    assert "person:read" not in report["scopeGap"]
    assert report["publicUrl"]["loopback"] is False
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
async def without_credentials(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """Gateway and provisioner, without the credentials service."""
    environment = {"posthog_private_host": posthog.url, **WITH_SECRET}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(provisioner_service(servers, database_url, posthog=environment))
        yield await enter(gateway_service(servers, tmp_path, posthog=environment))


async def test_the_other_parts_are_reported_without_the_credentials_service(
    servers: Servers, without_credentials: Gateway
) -> None:
    response = await without_credentials.http.get(DIAGNOSIS, headers=admin())
    report = response.json()
    assert response.status_code == 200
    assert report["credential"]["state"] == "unknown"
    assert report["personReads"]["state"] == "unknown"
    assert report["webhookSecret"]["state"] == "present"
    assert report["destination"]["state"] == "unknown"
    assert "hogsend status" in report["credential"]["remediation"]
    async with serving(servers, User.CREDENTIALS, router):
        credential = (await without_credentials.http.get(DIAGNOSIS, headers=admin())).json()[
            "credential"
        ]
    assert (credential["state"], credential["refreshFailing"]) == ("needs_reconnect", True)
    assert credential["expiresAt"] == "2026-06-13T04:00:00.000Z"
