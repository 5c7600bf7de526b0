"""One run at a time over all replicas, and runs while a dependency is down."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import pytest

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_TOKEN,
    DerivedReply,
    ProviderRef,
    TokenReply,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import Unavailable
from hogsend.contract.provisioning import ProvisionLoop
from hogsend.contract.users import User
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from services.provisioner.destination import store
from tests.integration.harness import credentials_service, serving
from tests.integration.harness import provisioner_service as service
from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.driver import WITH_SECRET, Driver
from tests.posthog_recorder import Recorded, Recorder
from tests.servers import Servers
from tests.waiting import eventually


async def advisory_locks(database_url: str, *, granted: bool) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = $1 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            granted,
        )
    finally:
        await connection.close()
    return int(count)


async def no_lock_is_granted(database_url: str) -> bool:
    return await advisory_locks(database_url, granted=True) == 0


async def end_lock_holders(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks "
            "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    finally:
        await connection.close()


async def test_two_concurrent_replicas_create_one_destination_and_generate_one_secret(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder
) -> None:
    async def delay_the_creation(request: Recorded) -> None:
        if request.method == "POST":
            await eventually(lambda: advisory_locks(database_url, granted=False))

    posthog.before = delay_the_creation
    environment = {"posthog_private_host": posthog.url}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        credentials = await enter(credentials_service(servers, database_url, personal_key="phx"))
        replicas = [
            await enter(service(servers, database_url, posthog=environment)) for _ in range(2)
        ]
        replies = await asyncio.gather(
            *(replica.provisioning.run(ProvisionLoop()) for replica in replicas)
        )
        derived = (await credentials.credentials.derived("posthog")).payload
    actions = sorted(reply.provisioned.action for reply in replies if reply.provisioned)
    assert actions == ["created", "unchanged"]
    (body,) = posthog.bodies("POST")
    assert derived is not None
    assert derived.webhook_secret in body["inputs"]["headers"]["value"].values()


async def test_a_run_that_lost_its_lock_writes_nothing(driver: Driver, database_url: str) -> None:
    async def end_the_lock_holder(request: Recorded) -> None:
        if "hog_functions" in request.path:
            await end_lock_holders(database_url)

    driver.posthog.before = end_the_lock_holder
    response = await driver.provision()
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert driver.posthog.bodies("POST") == []
    driver.posthog.before = None
    assert (await driver.provision()).json()["action"] == "created"


async def test_a_run_writes_nothing_when_its_grant_was_replaced_during_the_run(
    start: Start,
) -> None:
    async with start() as driver:
        await driver.connect(scopedTeams=[7])
        reconnected = asyncio.Event()

        async def connect_again(request: Recorded) -> None:
            if "hog_functions" in request.path and not reconnected.is_set():
                reconnected.set()
                await driver.connect(scopedTeams=[8])

        driver.posthog.before = connect_again
        response = await driver.provision()
        assert (response.status_code, response.json()["error"]) == (409, "grant_replaced")
        assert response.json()["remediation"]
        assert driver.posthog.bodies("POST") == []
        derived = await driver.derived()
        assert derived is not None
        assert (derived.project_id, derived.project_api_key) == (None, None)
        assert derived.webhook_secret
        assert (await driver.provision()).json()["action"] == "created"


async def test_a_run_stores_nothing_after_its_credential_was_deleted(start: Start) -> None:
    async with start() as driver:

        async def delete(request: Recorded) -> None:
            driver.posthog.before = None
            await driver.credentials.credentials.delete("posthog")

        driver.posthog.before = delete
        assert (await driver.provision()).json()["error"] == "grant_replaced"
        assert await driver.derived() is None


async def test_a_run_that_does_not_get_the_lock_in_time_is_503(
    driver: Driver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.2)
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('hogsend.provisioner', 0))"
        )
        response = await driver.provision()
    await connection.close()
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert "another provisioning run" in response.json()["error"]
    assert (await driver.provision()).status_code == 200


async def test_a_process_that_does_not_use_its_lock_loses_it(
    driver: Driver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, stack = driver.provisioner.database, AsyncExitStack()
    with monkeypatch.context() as patched:
        patched.setattr(store, "IDLE_SECONDS", 2)
        lock = await stack.enter_async_context(store.DestinationStore(database).lock())
    await eventually(lambda: no_lock_is_granted(database_url))
    with pytest.raises(Unavailable):
        await lock.confirm()
    with pytest.raises(Unavailable):
        await stack.aclose()
    assert (await driver.provision()).status_code == 200


async def test_a_run_without_postgresql_is_a_typed_503(start: Start) -> None:
    async with start(environment=WITH_SECRET) as driver:
        await driver.provisioner.database.close()
        response = await driver.provision()
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert driver.posthog.requests == []


async def test_a_run_without_the_credentials_service_is_unavailable(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder
) -> None:
    environment = {"posthog_private_host": posthog.url, **WITH_SECRET}
    async with service(servers, database_url, posthog=environment) as provisioner:
        with pytest.raises(Unavailable, match="credentials"):
            await provisioner.provisioning.run(ProvisionLoop())
    assert posthog.requests == []


class RotatingCredentials:
    """A credentials service that replaces a rejected token with a new one."""

    def __init__(self) -> None:
        self.rejected: list[str] = []


router = ServiceRouter()


@router.endpoint(CREDENTIALS_TOKEN)
async def token(request: TokenRequest, rotating: Injected[RotatingCredentials]) -> TokenReply:
    if request.rejected_sha256 is None:
        return TokenReply(source="oauth", version=1, token="pha_old")
    rotating.rejected.append(request.rejected_sha256)
    return TokenReply(source="oauth", version=2, token="pha_new")


@router.endpoint(CREDENTIALS_GET_DERIVED)
async def derived(_request: ProviderRef) -> DerivedReply:
    return DerivedReply(version=1, state="absent")


async def test_a_run_starts_over_with_a_refreshed_token_after_its_token_was_refused(
    servers: Servers, database_url: str, fresh_bus: None, posthog: Recorder
) -> None:
    rotating = RotatingCredentials()
    posthog.accepts = {"pha_new"}
    posthog.project = {"id": 4242}
    environment = {"posthog_private_host": posthog.url, **WITH_SECRET}
    async with (
        serving(servers, User.CREDENTIALS, router, rotating),
        service(servers, database_url, posthog=environment) as provisioner,
    ):
        reply = await provisioner.provisioning.run(ProvisionLoop())
    assert reply.provisioned is not None
    assert reply.provisioned.action == "created"
    assert rotating.rejected == [token_digest("pha_old")]
    used = [request.headers["authorization"] for request in posthog.requests]
    assert used == ["Bearer pha_old"] + ["Bearer pha_new"] * 3
