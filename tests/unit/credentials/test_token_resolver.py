"""Which bearer is returned: the OAuth grant's, else the personal API key, else none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import DerivedPayload, ProvisionedProject
from hogsend.contract.credentials import token_digest as digest
from hogsend.contract.errors import Unavailable
from services.credentials.sealing import Sealer
from services.credentials.token_endpoint import RefreshFailed
from tests.unit.credentials.conftest import SECRET, Driver, Replica


def warnings(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["log_level"] == "warning"]


async def test_the_grant_comes_before_the_personal_key(driver: Driver) -> None:
    replica = driver.replica(personal_key="phx_fallback")
    reply = await replica.token()
    assert (reply.source, reply.token, reply.expires_at) == ("personal_key", "phx_fallback", None)
    grant = driver.grant(left=3600)
    await driver.put(grant)
    reply = await replica.token()
    assert (reply.source, reply.token, reply.expires_at) == ("oauth", "pha_0", grant.expires_at)
    await driver.store.delete("posthog")
    assert (await replica.token()).source == "personal_key"


async def test_no_token_is_returned_without_a_grant_and_a_personal_key(replica: Replica) -> None:
    reply = await replica.token()
    assert (reply.source, reply.token, reply.version) == ("none", None, 0)


async def test_case_85_the_old_token_is_used_until_it_really_expires(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("HTTP 500")
    assert (await replica.token()).token == "pha_0"
    driver.clock.advance(30)
    assert (await replica.token()).source == "none"


async def test_case_85_then_the_personal_key_is_used(driver: Driver) -> None:
    replica = driver.replica(personal_key="phx_fallback")
    await driver.put(driver.grant(left=30))
    driver.endpoint.failure = RefreshFailed("HTTP 500")
    assert (await replica.token()).source == "oauth"
    driver.clock.advance(31)
    reply = await replica.token()
    assert (reply.source, reply.token) == ("personal_key", "phx_fallback")


async def test_the_old_token_is_used_while_another_replicas_refresh_does_not_end(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.store.busy = True
    assert (await replica.token()).token == "pha_0"
    driver.clock.advance(31)
    assert (await replica.token()).source == "none"


async def test_a_rejected_token_is_refreshed_even_if_it_is_not_due(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    assert (await replica.token(digest("pha_0"))).token == "pha_1"
    # A later report of the same rejected token gets the new one.
    assert (await replica.token(digest("pha_0"))).token == "pha_1"
    assert len(driver.endpoint.requests) == 1


async def test_a_rejected_token_is_not_returned_again_when_refreshing_fails(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=3600))
    driver.endpoint.failure = RefreshFailed("HTTP 500")
    assert (await replica.token(digest("pha_0"))).source == "none"
    assert (await replica.token()).token == "pha_0"


async def test_without_the_database_no_bearer_is_returned(driver: Driver) -> None:
    replica = driver.replica(personal_key="phx_fallback")
    driver.store.available = False
    with pytest.raises(Unavailable):
        await replica.token()


async def test_a_rejected_token_that_could_not_be_stored_is_not_returned_again(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    driver.store.refuses_grants = True
    assert (await replica.token()).token == "pha_1"
    driver.store.available = False
    with pytest.raises(Unavailable):
        await replica.token(digest("pha_1"))


@pytest.mark.parametrize(
    "payload", [b'{"accessToken":"pha_0"}', b"[]", b"not json", b'{"accessToken":5}', b"\xff"]
)
async def test_case_88_a_malformed_payload_is_no_credential(
    driver: Driver, replica: Replica, payload: bytes
) -> None:
    await driver.store.save("posthog", "oauth", Sealer(SECRET).seal(payload))
    with capture_logs() as logs:
        assert (await replica.token()).source == "none"
        assert (await replica.token()).source == "none"
    assert len(warnings(logs)) == 1
    assert "pha_0" not in str(logs)
    assert driver.endpoint.requests == []


async def test_case_89_an_undecryptable_row_is_no_credential(driver: Driver) -> None:
    await driver.put(driver.grant(left=3600))
    replica = driver.replica(secret="new", personal_key="phx_fallback")
    with capture_logs() as logs:
        assert (await replica.token()).source == "personal_key"
    (warning,) = warnings(logs)
    assert "sealed with another secret" in warning["reason"]


async def test_a_bearer_is_returned_with_the_projects_of_its_grant(driver: Driver) -> None:
    replica = driver.replica(personal_key="phx_fallback")
    assert (await replica.token()).scoped_teams == []
    await driver.put(driver.grant(left=30, scoped_teams=[4242]))
    derived = DerivedPayload(project_id="55", private_host="https://eu.posthog.com")
    await driver.store.save("posthog", "derived", driver.sealer.seal(derived))
    driver.endpoint.failure = RefreshFailed("HTTP 500")
    for source, seconds in (("oauth", 0), ("personal_key", 31)):
        driver.clock.advance(seconds)
        reply = await replica.token()
        assert (reply.source, reply.scoped_teams) == (source, [4242])
        assert reply.provisioned_project == ProvisionedProject("55", "https://eu.posthog.com")
    await driver.store.delete("posthog")
    reply = await replica.token()
    assert (reply.scoped_teams, reply.provisioned_project) == ([], None)


@pytest.mark.parametrize(
    "derived",
    [
        DerivedPayload(project_id="55"),
        DerivedPayload(project_id="", private_host="https://eu.posthog.com"),
        DerivedPayload(private_host="https://eu.posthog.com"),
        DerivedPayload(project_id="55", private_host=""),
    ],
)
async def test_a_bearer_has_no_project_when_its_id_or_its_host_is_not_stored(
    driver: Driver, replica: Replica, derived: DerivedPayload
) -> None:
    await driver.put(driver.grant(left=3600))
    await driver.store.save("posthog", "derived", driver.sealer.seal(derived))
    assert (await replica.token()).provisioned_project is None


async def test_a_bearer_has_the_generation_of_its_grant(driver: Driver) -> None:
    replica = driver.replica()
    await driver.put(driver.grant(left=30))
    connected = (await driver.snapshot()).generation
    assert connected
    refreshed = await replica.token()
    assert (refreshed.token, refreshed.generation) == ("pha_1", connected)
    assert refreshed.version > connected
    driver.clock.advance(3600)
    driver.endpoint.failure = RefreshFailed("HTTP 500")
    driver.endpoint.arrived.clear()
    driver.endpoint.responding.clear()
    request = asyncio.create_task(replica.token())
    await driver.endpoint.arrived.wait()
    await driver.put(driver.grant(left=3600))
    # Later requests get the new generation; an earlier reply keeps the previous one.
    again = (await replica.token()).generation
    driver.endpoint.responding.set()
    assert (await request).generation == connected
    assert again == (await driver.snapshot()).generation != connected


@pytest.mark.parametrize("personal_key", [None, "phx_fallback"])
async def test_a_grant_that_waits_for_its_refresh_is_not_reported_as_missing(
    driver: Driver, personal_key: str | None
) -> None:
    replica = driver.replica(personal_key=personal_key)
    assert (await replica.token()).not_refreshed is None
    await driver.put(driver.grant(left=61))
    assert (await replica.token()).not_refreshed is None
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    driver.clock.advance(61)
    reply = await replica.token()
    assert (reply.token, reply.not_refreshed) == (personal_key, "HTTP 503")
    driver.clock.advance(60)
    driver.endpoint.failure = RefreshFailed("invalid_grant")
    reply = await replica.token()
    assert (reply.token, reply.not_refreshed) == (personal_key, None)


async def test_a_grant_is_not_reported_as_missing_when_postgresql_fails_during_its_refresh(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=0))
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    driver.endpoint.responding.clear()
    request = asyncio.create_task(replica.token())
    await driver.endpoint.arrived.wait()
    driver.store.available = False
    driver.endpoint.responding.set()
    reply = await request
    assert (reply.source, reply.not_refreshed) == ("none", "PostgreSQL is not available")


async def test_a_grant_that_another_replica_refreshes_is_not_reported_as_missing(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=0))
    driver.store.busy = True
    assert (await replica.token()).not_refreshed


async def test_a_token_that_posthog_refuses_is_not_refreshed_only_after_a_failure(
    driver: Driver, replica: Replica
) -> None:
    await driver.put(driver.grant(left=30))
    assert (await replica.token()).token == "pha_1"
    # Refreshed a moment ago: PostHog refuses this grant, and another refresh would not help.
    reply = await replica.token(digest("pha_1"))
    assert (reply.source, reply.not_refreshed) == ("none", None)
    driver.clock.advance(61)
    driver.endpoint.failure = RefreshFailed("HTTP 503")
    reply = await replica.token(digest("pha_1"))
    assert (reply.source, reply.not_refreshed) == ("none", "HTTP 503")
