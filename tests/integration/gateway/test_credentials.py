"""Acceptance cases 12.1 that need the credentials service. The other cases are unit tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hogsend.client.client import Client
from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged, DerivedPayload, Kind, OAuthPayload
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.integration.harness import (
    Credentials,
    Gateway,
    admin,
    connected,
    consumer_api,
    credentials_service,
    gateway_service,
)
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

URL = "/v1/admin/provider-credentials/posthog"
EXPIRES = (datetime.now(UTC) + timedelta(hours=10)).replace(microsecond=0)
PAYLOAD: dict[str, Any] = {
    "accessToken": "pha_a",
    "refreshToken": "phr_r",
    "expiresAt": EXPIRES.isoformat().replace("+00:00", "Z"),
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read", "person:write", "project:read", "hog_function:write"],
    "scopedTeams": [199032],
    "scopedOrganizations": ["0190aa51-6a70-0000-5c6d-2b5ea0c8a2d9"],
}


@pytest.fixture
async def service(
    servers: Servers, database_url: str, fresh_bus: None
) -> AsyncIterator[Credentials]:
    async with credentials_service(servers, database_url) as running:
        yield running


@pytest.fixture
async def gateway(servers: Servers, service: Credentials, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_service(servers, tmp_path) as running:
        yield running


async def put(gateway: Gateway, **changes: Any) -> Any:
    return await gateway.http.put(URL, json={"payload": {**PAYLOAD, **changes}}, headers=admin())


async def rows(service: Credentials) -> list[asyncpg.Record]:
    async with service.database.acquire() as connection:
        return await connection.fetch("SELECT * FROM provider_credentials ORDER BY kind")


async def decrypted(service: Credentials, kind: Kind, payload: type[Any]) -> Any:
    stored = await service.store.load("posthog")
    return service.sealer._unseal_kind(stored.rows, kind, payload).payload


async def test_case_6_put_returns_exactly_the_metadata(gateway: Gateway) -> None:
    response = await put(gateway)
    assert response.status_code == 200
    meta = response.json()
    assert set(meta) == {
        "providerId",
        "kind",
        "scopes",
        "expiresAt",
        "scopedTeams",
        "createdAt",
        "updatedAt",
    }
    assert meta["providerId"] == "posthog"
    assert meta["kind"] == "oauth"
    assert meta["scopes"] == PAYLOAD["scopes"]
    assert meta["scopedTeams"] == PAYLOAD["scopedTeams"]
    assert datetime.fromisoformat(meta["expiresAt"]) == EXPIRES
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", meta["createdAt"])


async def test_case_7_put_returns_no_tokens(gateway: Gateway) -> None:
    text = (await put(gateway)).text
    for secret in ("pha_a", "phr_r", "payload", "accessToken", "refreshToken"):
        assert secret not in text


async def test_case_8_the_stored_row_is_sealed(gateway: Gateway, service: Credentials) -> None:
    await put(gateway)
    (row,) = await rows(service)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", row["payload"])
    assert "pha_" not in row["payload"]
    assert "phr_" not in row["payload"]


async def test_case_9_a_second_put_replaces_the_grant_and_keeps_the_row(
    gateway: Gateway, service: Credentials
) -> None:
    await put(gateway)
    (before,) = await rows(service)
    response = await put(gateway, accessToken="pha_b", scopes=["person:read"])
    (after,) = await rows(service)
    assert response.status_code == 200
    assert after["id"] == before["id"]
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] >= before["updated_at"] >= before["created_at"]
    assert (await gateway.http.get(URL, headers=admin())).json()["scopes"] == ["person:read"]


async def test_case_10_get_returns_metadata_without_tokens(gateway: Gateway) -> None:
    await put(gateway)
    response = await gateway.http.get(URL, headers=admin())
    assert response.status_code == 200
    assert isinstance(response.json()["createdAt"], str)
    assert isinstance(response.json()["updatedAt"], str)
    assert "ph" not in response.text.replace("posthog", "")


async def test_case_11_get_returns_404_without_a_stored_credential(gateway: Gateway) -> None:
    response = await gateway.http.get(URL, headers=admin())
    assert (response.status_code, response.json()) == (
        404,
        {"error": "Provider credential not found"},
    )


async def test_case_12_a_second_delete_returns_404(gateway: Gateway, service: Credentials) -> None:
    await put(gateway)
    first = await gateway.http.delete(URL, headers=admin())
    second = await gateway.http.delete(URL, headers=admin())
    assert (first.status_code, first.json()) == (200, {"deleted": True})
    assert second.status_code == 404
    assert await rows(service) == []


async def test_case_13_delete_removes_both_kinds(gateway: Gateway, service: Credentials) -> None:
    await put(gateway)
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    assert len(await rows(service)) == 2
    assert (await gateway.http.delete(URL, headers=admin())).status_code == 200
    assert await rows(service) == []
    assert (await gateway.http.delete(URL, headers=admin())).status_code == 404


async def test_case_14_a_derived_row_alone_can_be_deleted(
    gateway: Gateway, service: Credentials
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    assert (await gateway.http.get(URL, headers=admin())).status_code == 404
    response = await gateway.http.delete(URL, headers=admin())
    assert (response.status_code, response.json()) == (200, {"deleted": True})


@pytest.mark.parametrize("payload", ["bm90LXJlYWwtY2lwaGVydGV4dA", "", "{}", "ü"])
async def test_case_15_an_undecryptable_row_returns_409_and_can_be_deleted(
    gateway: Gateway, service: Credentials, payload: str
) -> None:
    await put(gateway)
    async with service.database.acquire() as connection:
        await connection.execute("UPDATE provider_credentials SET payload = $1", payload)
    response = await gateway.http.get(URL, headers=admin())
    assert response.status_code == 409
    assert "cannot be decrypted" in response.json()["error"]
    assert "BETTER_AUTH_SECRET" in response.json()["error"]
    assert (await gateway.http.delete(URL, headers=admin())).status_code == 200


async def test_case_16_a_credential_sealed_with_another_secret_returns_409_until_it_is_replaced(
    servers: Servers, database_url: str, fresh_bus: None, tmp_path: Path
) -> None:
    async with (
        credentials_service(servers, database_url, secret="old"),
        gateway_service(servers, tmp_path / "a") as gateway,
    ):
        await put(gateway)
    async with (
        credentials_service(servers, database_url, secret="new"),
        gateway_service(servers, tmp_path / "b") as gateway,
    ):
        assert (await gateway.http.get(URL, headers=admin())).status_code == 409
        repaired = await put(gateway)
        assert repaired.status_code == 200
        assert (await gateway.http.get(URL, headers=admin())).status_code == 200
        assert (await gateway.http.delete(URL, headers=admin())).status_code == 200


@pytest.mark.parametrize("field", ["tokenEndpoint", "clientId"])
async def test_case_17_an_invalid_url_returns_400_and_is_not_stored(
    gateway: Gateway, service: Credentials, field: str
) -> None:
    response = await put(gateway, **{field: "not-a-url"})
    assert response.status_code == 400
    assert response.json()["success"] is False
    assert response.json()["error"]["name"] == "ZodError"
    assert await rows(service) == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"tokenEndpoint": "http://eu.posthog.com/oauth/token/"}, id="plain_http"),
        pytest.param({"tokenEndpoint": "ftp://eu.posthog.com/oauth/token/"}, id="other_scheme"),
        pytest.param({"tokenEndpoint": "http://localhost@evil.example/"}, id="userinfo"),
        pytest.param({"tokenEndpoint": "http://localhost.evil.example/"}, id="look_alike"),
        pytest.param({"tokenEndpoint": "https://169.254.169.254/token"}, id="link_local"),
        pytest.param({"tokenEndpoint": "https://10.0.0.7/oauth/token/"}, id="private"),
        pytest.param({"tokenEndpoint": "https://[::ffff:10.0.0.7]/token"}, id="private_in_ipv6"),
    ],
)
async def test_a_forbidden_token_endpoint_returns_400_and_is_not_stored(
    gateway: Gateway, service: Credentials, changes: dict[str, Any]
) -> None:
    response = await put(gateway, **changes)
    assert response.status_code == 400
    assert "payload.tokenEndpoint" in response.json()["error"]
    assert "pha_a" not in response.text
    assert await rows(service) == []


async def test_case_23_a_saved_grant_is_loaded_unchanged(
    gateway: Gateway, service: Credentials
) -> None:
    await put(gateway)
    stored = await decrypted(service, "oauth", OAuthPayload)
    assert stored == OAuthPayload(
        access_token="pha_a",
        refresh_token="phr_r",
        expires_at=EXPIRES,
        token_endpoint=PAYLOAD["tokenEndpoint"],
        client_id=PAYLOAD["clientId"],
        scopes=PAYLOAD["scopes"],
        scoped_teams=PAYLOAD["scopedTeams"],
        scoped_organizations=PAYLOAD["scopedOrganizations"],
    )


async def test_case_24_a_grant_and_derived_values_are_stored_independently(
    gateway: Gateway, service: Credentials
) -> None:
    derived = DerivedPayload(
        webhook_secret="w", project_api_key="phc_x", project_id="4242", private_host="https://h"
    )
    await service.credentials.put_derived("posthog", derived)
    await put(gateway)
    assert await decrypted(service, "derived", DerivedPayload) == derived
    assert (await decrypted(service, "oauth", OAuthPayload)) is not None


async def test_a_derived_project_is_removed_when_a_new_grant_does_not_include_it(
    gateway: Gateway, service: Credentials
) -> None:
    await put(gateway, scopedTeams=[7])
    derived = DerivedPayload(webhook_secret="w", project_api_key="phc_x", project_id="7")
    await service.credentials.put_derived("posthog", derived)
    await put(gateway, scopedTeams=[7, 8])
    assert await decrypted(service, "derived", DerivedPayload) == derived
    await put(gateway, scopedTeams=[8])
    assert await decrypted(service, "derived", DerivedPayload) == DerivedPayload(webhook_secret="w")
    assert (await decrypted(service, "oauth", OAuthPayload)).scoped_teams == [8]


async def test_case_25_saving_derived_values_replaces_all_of_them(service: Credentials) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="first"))
    second = DerivedPayload(webhook_secret="second", project_api_key="phc_x")
    await service.credentials.put_derived("posthog", second)
    assert await decrypted(service, "derived", DerivedPayload) == second
    assert [row["kind"] for row in await rows(service)] == ["derived"]


async def test_a_change_is_published_before_the_request_returns(
    servers: Servers, gateway: Gateway, service: Credentials
) -> None:
    async with consumer_api(servers), connected(servers, User.SUBSCRIBER) as bus:
        changes = Client(bus).credential_changes("posthog")
        await put(gateway)
        stored = await anext(changes)
        await gateway.http.delete(URL, headers=admin())
        deleted = await anext(changes)
        last = await _last_change(bus)
    assert (stored.change, stored.kinds, stored.scopes) == ("stored", ["oauth"], PAYLOAD["scopes"])
    assert stored.expires_at == EXPIRES
    assert (deleted.change, deleted.kinds, deleted.changed_kinds) == ("deleted", [], ["oauth"])
    assert deleted.version > stored.version
    assert last == deleted


async def test_an_unpublished_change_is_published_by_the_relay(
    servers: Servers, service: Credentials
) -> None:
    payload = service.sealer.seal(DerivedPayload(webhook_secret="w"))
    await service.store.save("posthog", "derived", payload)
    await service.relay.relay_pending()
    async with consumer_api(servers), connected(servers, User.SUBSCRIBER) as bus:
        change = await asyncio.wait_for(anext(Client(bus).credential_changes()), PATIENCE_SECONDS)
    assert change.kinds == ["derived"]


async def test_an_overwritten_last_change_is_published_again(
    servers: Servers, service: Credentials
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    subject = subjects.credential_changed("posthog")
    info = f"$JS.API.STREAM.INFO.{StreamName.CREDENTIALS}"
    async with connected(servers, User.OPERATOR) as operator:

        async def last() -> bytes:
            return (await operator.js.get_last_msg(StreamName.CREDENTIALS, subject)).data or b""

        published = await last()
        # Any user in the account of JetStream can direct a reply to that subject.
        await operator.client.publish(info, b"", reply=subject)

        async def is_overwritten() -> bool:
            return await last() != published

        await eventually(is_overwritten)
        await service.relay.relay_pending()
        await service.relay.relay_pending()
        assert await last() == published


async def _last_change(bus: Connection) -> CredentialChanged:
    return await anext(Client(bus).credential_changes())
