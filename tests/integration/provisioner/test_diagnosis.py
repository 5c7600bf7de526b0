"""The diagnosis: every state of every part, and no part hides another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hogsend.contract.credentials import (
    CREDENTIALS_STATUS,
    CredentialStatus,
    DerivedPayload,
    ProviderRef,
)
from hogsend.contract.users import User
from hogsend.service.serving import Handler, serve
from tests.integration.harness import Gateway, admin, connected, gateway, provisioner_service
from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.driver import (
    DIAGNOSIS,
    NOWHERE,
    SECRET,
    WEBHOOK_URL,
    WITH_SECRET,
    Driver,
    filters,
    inputs,
)
from tests.integration.provisioner.test_ownership import HEALTH, OTHER_HOST, PLACEHOLDER, Instance
from tests.posthog_recorder import Recorder
from tests.servers import Servers

OTHER_URL = f"https://{OTHER_HOST}/v1/webhooks/posthog"


def compliant(driver: Driver, id: str = "fn", **values: Any) -> None:
    driver.posthog.add(id, **{"inputs": inputs(), "filters": filters(), **values})


async def test_everything_works(driver: Driver) -> None:
    compliant(driver)
    found = await driver.diagnose()
    assert set(found) == {
        "privateHost",
        "credential",
        "personReads",
        "webhookSecret",
        "destination",
        "scopeGap",
        "publicUrl",
    }
    assert found["privateHost"] == driver.posthog.url
    assert found["credential"]["state"] == "present"
    assert found["credential"]["refreshFailing"] is False
    assert found["personReads"]["state"] == "working"
    assert found["personReads"]["through"] == "oauth"
    assert found["webhookSecret"]["state"] == "present"
    assert found["webhookSecret"]["source"] == "environment"
    assert found["destination"] == {
        "state": "live",
        "hogFunctionId": "fn",
        "webhookUrl": WEBHOOK_URL,
        "dashboardUrl": f"{driver.posthog.url}/project/4242/pipeline/destinations/hog-fn/"
        "configuration",
        "detail": None,
        "remediation": None,
    }
    assert "organization:read" in found["scopeGap"]
    assert "person:read" not in found["scopeGap"]
    assert found["publicUrl"]["loopback"] is False
    assert {request.method for request in driver.posthog.requests} == {"GET"}
    assert "GET /api/environments/4242/persons/?limit=1" in driver.posthog.lines()


async def test_a_configured_project_needs_no_discovery(start: Start) -> None:
    async with start(environment={**WITH_SECRET, "posthog_project_id": "77"}) as driver:
        found = await driver.diagnose()
    assert (found["personReads"]["state"], found["destination"]["state"]) == ("working", "missing")
    assert all("/api/environments/77/" in line for line in driver.posthog.lines())


@pytest.mark.parametrize(
    ("values", "state", "named"),
    [
        ({"enabled": False}, "disabled", "disabled"),
        ({"inputs": inputs(secret="stale")}, "drifted", "webhook secret"),
        ({"filters": {}}, "drifted", "identified"),
        ({"inputs": inputs("https://old.example.com/v1/webhooks/posthog")}, "drifted", "URL"),
        ({"inputs": inputs(PLACEHOLDER), "enabled": False}, "placeholder", "placeholder"),
        ({"inputs": inputs(OTHER_URL, "their-secret")}, "elsewhere", "another Hogsend"),
        ({"inputs": inputs("https://x.example/hook")}, "missing", "no destination"),
    ],
)
async def test_the_destination(
    driver: Driver, values: dict[str, Any], state: str, named: str
) -> None:
    compliant(driver, **values)
    destination = (await driver.diagnose())["destination"]
    assert destination["state"] == state
    assert named in destination["detail"]
    assert "--provision-only" in destination["remediation"]
    assert {request.method for request in driver.posthog.requests} == {"GET"}


async def test_a_live_instance_elsewhere(start: Start) -> None:
    other = Instance(200, HEALTH)
    async with start(environment=WITH_SECRET, instances={OTHER_HOST: other}) as driver:
        compliant(driver, inputs=inputs(OTHER_URL, SECRET))
        destination = (await driver.diagnose())["destination"]
    assert (destination["state"], destination["webhookUrl"]) == ("elsewhere", OTHER_URL)


async def test_the_working_destination_is_found_behind_others(driver: Driver) -> None:
    compliant(driver, "old", enabled=False)
    compliant(driver, "works")
    destination = (await driver.diagnose())["destination"]
    assert (destination["state"], destination["hogFunctionId"]) == ("live", "works")


async def test_nothing_is_connected(start: Start) -> None:
    async with start(connected=False) as driver:
        found = await driver.diagnose()
    assert found["credential"]["state"] == "absent"
    assert found["personReads"]["state"] == "off"
    assert found["personReads"]["through"] == "none"
    assert found["webhookSecret"]["state"] == "absent"
    assert found["webhookSecret"]["source"] == "none"
    assert found["destination"]["state"] == "unknown"
    assert found["scopeGap"] == []
    for part in ("credential", "personReads", "webhookSecret", "destination"):
        assert "hogsend connect posthog" in found[part]["remediation"]
    assert driver.posthog.requests == []


async def test_no_posthog_is_configured(start: Start) -> None:
    async with start(environment={**NOWHERE, **WITH_SECRET}) as driver:
        found = await driver.diagnose()
    assert found["privateHost"] is None
    assert found["credential"]["state"] == "present"
    assert (found["personReads"]["state"], found["destination"]["state"]) == ("unknown", "unknown")
    assert "POSTHOG_HOST" in found["destination"]["remediation"]


async def test_reads_through_the_personal_key(start: Start) -> None:
    async with start(connected=False, personal_key="phx_key") as driver:
        found = await driver.diagnose()
    assert (found["personReads"]["state"], found["personReads"]["through"]) == (
        "working",
        "personal_key",
    )


async def test_unreadable_rows(start: Start) -> None:
    async with start() as driver:
        compliant(driver)
        await driver.make_unreadable("oauth")
        await driver.make_unreadable("derived")
        found = await driver.diagnose()
    assert found["credential"]["state"] == "unreadable"
    assert found["webhookSecret"]["state"] == "unreadable"
    assert found["webhookSecret"]["source"] == "minted"
    assert "BETTER_AUTH_SECRET_PREVIOUS" in found["credential"]["remediation"]


async def test_a_minted_secret(start: Start) -> None:
    async with start() as driver:
        stored = DerivedPayload(webhook_secret="minted")
        await driver.credentials.credentials.put_derived("posthog", stored)
        compliant(driver, inputs=inputs(secret="minted"))
        found = await driver.diagnose()
    assert (found["webhookSecret"]["state"], found["webhookSecret"]["source"]) == (
        "present",
        "minted",
    )
    assert found["destination"]["state"] == "live"
    assert "minted" not in str(found["destination"])


@pytest.mark.parametrize(
    ("status", "named"), [(403, "person:read"), (401, "connect"), (500, "500")]
)
async def test_reads_that_fail_hide_nothing_else(driver: Driver, status: int, named: str) -> None:
    compliant(driver)
    driver.posthog.refuse("GET", "persons", status, {"detail": "no"})
    found = await driver.diagnose()
    reads = found["personReads"]
    assert (reads["state"], reads["through"]) == ("failing", "oauth")
    assert str(status) in reads["detail"]
    assert named in reads["detail"] + reads["remediation"]
    assert found["destination"]["state"] == "live"


async def test_a_list_that_fails_hides_nothing_else(driver: Driver) -> None:
    driver.posthog.refuse("GET", "hog_functions", 403, {"detail": "no"})
    found = await driver.diagnose()
    assert found["personReads"]["state"] == "working"
    assert found["destination"]["state"] == "unknown"
    assert "403" in found["destination"]["detail"]
    assert "hog_function:write" in found["destination"]["remediation"]


async def test_a_dead_posthog_hides_nothing_else(driver: Driver) -> None:
    driver.posthog.refuse(".*", ".*", 503, b"down")
    found = await driver.diagnose()
    assert found["credential"]["state"] == "present"
    assert found["webhookSecret"]["state"] == "present"
    assert found["personReads"]["state"] == "failing"
    assert found["destination"]["state"] == "unknown"
    assert "503" in found["destination"]["detail"]


async def test_a_loopback_public_url(start: Start) -> None:
    async with start(environment=WITH_SECRET, public_url="http://localhost:3002") as driver:
        public = (await driver.diagnose())["publicUrl"]
    assert (public["url"], public["loopback"]) == ("http://localhost:3002", True)
    assert "API_PUBLIC_URL" in public["remediation"]


async def test_a_lost_database_hides_nothing(driver: Driver) -> None:
    compliant(driver)
    await driver.provisioner.database.close()
    assert (await driver.diagnose())["destination"]["state"] == "live"


@pytest.fixture
async def alone(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """Gateway and provisioner, without the credentials service."""
    environment = {"posthog_private_host": posthog.url, **WITH_SECRET}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(provisioner_service(servers, database_url, posthog=environment))
        yield await enter(gateway(servers, tmp_path, posthog=environment))


async def test_without_the_credentials_service_the_rest_is_said(alone: Gateway) -> None:
    answer = await alone.http.get(DIAGNOSIS, headers=admin())
    found = answer.json()
    assert answer.status_code == 200
    assert found["credential"]["state"] == "unknown"
    assert found["personReads"]["state"] == "unknown"
    assert found["webhookSecret"]["state"] == "present"
    assert found["destination"]["state"] == "unknown"
    assert "hogsend status" in found["credential"]["remediation"]


@pytest.mark.parametrize(
    ("changes", "state", "failing"),
    [
        ({}, "present", False),
        ({"refresh_error": "the token endpoint answered 500"}, "present", True),
        ({"needs_reconnect": True}, "needs_reconnect", True),
    ],
)
async def test_the_life_of_the_grant(
    servers: Servers, alone: Gateway, changes: dict[str, Any], state: str, failing: bool
) -> None:
    async def status(_request: ProviderRef) -> CredentialStatus:
        return CredentialStatus(
            version=1,
            oauth="present",
            scopes=["person:read"],
            webhook_secret="absent",
            expires_at=datetime(2026, 6, 13, 4, tzinfo=UTC),
            **changes,
        )

    async with connected(servers, User.CREDENTIALS) as bus:
        await serve(bus, User.CREDENTIALS, [Handler(CREDENTIALS_STATUS, status)])
        await bus.flush()
        credential = (await alone.http.get(DIAGNOSIS, headers=admin())).json()["credential"]
    assert (credential["state"], credential["refreshFailing"]) == (state, failing)
    assert credential["expiresAt"] == "2026-06-13T04:00:00.000Z"
    assert (credential["remediation"] is None) is (state == "present" and not failing)
