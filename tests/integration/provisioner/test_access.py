"""Permissions of the provisioner's callers. No test provisions, so all share one driver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_TOKEN,
    ProviderRef,
    TokenRequest,
)
from hogsend.contract.errors import Forbidden
from hogsend.contract.provisioning import PROVISIONER_PROVISION, ProvisionLoop
from hogsend.contract.users import User
from tests.integration.harness import READ_KEY, admin, connected
from tests.integration.provisioner.driver import (
    DIAGNOSIS,
    URL,
    WITH_SECRET,
    Driver,
    start_driver,
)
from tests.posthog_recorder import posthog_recorder
from tests.servers import Servers


@pytest.fixture(scope="module")
async def driver(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Driver]:
    directory = tmp_path_factory.mktemp("access")
    async with (
        servers.fresh_database() as database_url,
        posthog_recorder() as posthog,
        start_driver(servers, database_url, posthog, directory, environment=WITH_SECRET) as driver,
    ):
        yield driver
        assert posthog.requests == []


@pytest.mark.parametrize(("method", "url"), [("POST", URL), ("GET", DIAGNOSIS)])
async def test_both_routes_require_a_key(driver: Driver, method: str, url: str) -> None:
    assert (await driver.gateway.http.request(method, url)).status_code == 401


async def test_provisioning_with_a_read_key_is_403(driver: Driver) -> None:
    reader = await driver.gateway.http.post(URL, headers=admin(READ_KEY))
    assert reader.status_code == 403


async def test_both_routes_are_documented(driver: Driver) -> None:
    paths = (await driver.gateway.http.get("/docs/openapi.json")).json()["paths"]
    assert {"200", "400", "401", "403", "409", "502", "503"} <= set(paths[URL]["post"]["responses"])
    assert {"200", "401", "403", "503"} <= set(paths[DIAGNOSIS]["get"]["responses"])


@pytest.mark.parametrize("query", ["True", "1", "", "yes", "false,true"])
async def test_an_invalid_placeholder_is_400(driver: Driver, query: str) -> None:
    response = await driver.provision(f"?placeholder={query}&other=1")
    assert response.status_code == 400
    assert response.json()["success"] is False
    assert response.json()["error"]["name"] == "ZodError"
    assert "placeholder" in response.json()["error"]["message"]


async def test_the_gateway_may_request_neither_the_derived_secrets_nor_a_token(
    driver: Driver,
) -> None:
    bus = driver.gateway.bus
    with pytest.raises(Forbidden):
        await bus.request(CREDENTIALS_GET_DERIVED, ProviderRef(provider_id="posthog"))
    with pytest.raises(Forbidden):
        await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))


@pytest.mark.parametrize("user", [User.INGEST, User.SUBSCRIBER])
async def test_other_nats_users_may_not_provision(
    servers: Servers, driver: Driver, user: User
) -> None:
    async with connected(servers, user) as bus:
        with pytest.raises(Forbidden):
            await bus.request(PROVISIONER_PROVISION, ProvisionLoop())


async def test_health_reports_the_provisioner_and_its_schema(driver: Driver) -> None:
    health = (await driver.gateway.http.get("/v1/health")).json()
    assert health["services"]["provisioner"]["status"] == "up"
    assert "provisioner/" in health["schema"]["engine"]["applied"]
    assert health["schema"]["engine"]["inSync"] is True
