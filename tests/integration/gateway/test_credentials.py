"""Acceptance cases 12.1: the admin key and the credential routes.

Left out: 3, 4 and 5 need Hogsend's database keys, which are not part of this product. Case 3's
answer, 403 for a known key that is not full-admin, is shown with the read key instead.
"""

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
from hogsend.contract.credentials import CredentialChanged, DerivedPayload, Kind, OAuthPayload
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.integration.harness import (
    READ_KEY,
    Credentials,
    Gateway,
    admin,
    connected,
    credentials_service,
    gateway,
)
from tests.servers import Servers

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
ROUTES = [
    ("PUT", URL),
    ("GET", URL),
    ("DELETE", URL),
    ("GET", "/v1/admin/analytics/connect-info"),
    ("GET", "/v1/admin/events"),
    ("GET", "/v1/admin/deadletters"),
    ("GET", "/v1/admin/deadletters/1"),
    ("DELETE", "/v1/admin/deadletters/1"),
    ("POST", "/v1/admin/deadletters/1/replay"),
    ("POST", "/v1/admin/deadletters/replay"),
    ("POST", "/v1/admin/deadletters/purge"),
]


@pytest.fixture
async def service(
    servers: Servers, database_url: str, fresh_bus: None
) -> AsyncIterator[Credentials]:
    async with credentials_service(servers, database_url) as running:
        yield running


@pytest.fixture
async def front(servers: Servers, service: Credentials, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(servers, tmp_path) as running:
        yield running


async def put(front: Gateway, **changes: Any) -> Any:
    return await front.http.put(URL, json={"payload": {**PAYLOAD, **changes}}, headers=admin())


async def rows(service: Credentials) -> list[asyncpg.Record]:
    async with service.database.acquire() as connection:
        return await connection.fetch("SELECT * FROM provider_credentials ORDER BY kind")


async def loaded(service: Credentials, kind: Kind, payload: type[Any]) -> Any:
    stored = await service.store.load("posthog")
    return service.sealer._unseal_kind(stored.rows, kind, payload).payload


@pytest.mark.parametrize(("method", "url"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "k-admin"},
        {"Authorization": "bearer k-admin"},
        {"Authorization": "Bearer  k-admin"},
        {"X-Api-Key": "k-admin"},
    ],
)
async def test_case_1_without_a_bearer_every_admin_route_is_401(
    front: Gateway, service: Credentials, method: str, url: str, headers: dict[str, str]
) -> None:
    answer = await front.http.request(method, url, headers=headers, json={"payload": PAYLOAD})
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert await rows(service) == []


@pytest.mark.parametrize("key", ["wrong", "", "k-admi", "k-adminn", "k-ädmin"])
async def test_case_2_an_unknown_bearer_is_401(front: Gateway, key: str) -> None:
    answer = await front.http.get(URL, headers={b"Authorization": f"Bearer {key}".encode()})
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize(("method", "url"), ROUTES[:4])
async def test_a_read_key_is_403_but_for_the_event_list(
    front: Gateway, service: Credentials, method: str, url: str
) -> None:
    answer = await front.http.request(
        method, url, headers=admin(READ_KEY), json={"payload": PAYLOAD}
    )
    assert (answer.status_code, answer.json()) == (403, {"error": "Forbidden: insufficient scope"})
    assert await rows(service) == []
    assert (await front.http.get("/v1/admin/events", headers=admin(READ_KEY))).status_code == 503


async def test_case_6_put_answers_exactly_the_meta(front: Gateway) -> None:
    answer = await put(front)
    assert answer.status_code == 200
    meta = answer.json()
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


async def test_case_7_no_token_material_is_answered(front: Gateway) -> None:
    text = (await put(front)).text
    for secret in ("pha_a", "phr_r", "payload", "accessToken", "refreshToken"):
        assert secret not in text


async def test_case_8_the_row_is_sealed(front: Gateway, service: Credentials) -> None:
    await put(front)
    (row,) = await rows(service)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", row["payload"])
    assert "pha_" not in row["payload"]
    assert "phr_" not in row["payload"]


async def test_case_9_a_second_put_replaces_the_first(front: Gateway, service: Credentials) -> None:
    await put(front)
    (before,) = await rows(service)
    answer = await put(front, accessToken="pha_b", scopes=["person:read"])
    (after,) = await rows(service)
    assert answer.status_code == 200
    assert after["id"] == before["id"]
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] >= before["updated_at"] >= before["created_at"]
    assert (await front.http.get(URL, headers=admin())).json()["scopes"] == ["person:read"]


async def test_case_10_get_describes_without_tokens(front: Gateway) -> None:
    await put(front)
    answer = await front.http.get(URL, headers=admin())
    assert answer.status_code == 200
    assert isinstance(answer.json()["createdAt"], str)
    assert isinstance(answer.json()["updatedAt"], str)
    assert "ph" not in answer.text.replace("posthog", "")


async def test_case_11_nothing_stored_is_404(front: Gateway) -> None:
    answer = await front.http.get(URL, headers=admin())
    assert (answer.status_code, answer.json()) == (404, {"error": "Provider credential not found"})


async def test_case_12_delete_twice(front: Gateway, service: Credentials) -> None:
    await put(front)
    first = await front.http.delete(URL, headers=admin())
    second = await front.http.delete(URL, headers=admin())
    assert (first.status_code, first.json()) == (200, {"deleted": True})
    assert second.status_code == 404
    assert await rows(service) == []


async def test_case_13_delete_removes_both_kinds(front: Gateway, service: Credentials) -> None:
    await put(front)
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    assert len(await rows(service)) == 2
    assert (await front.http.delete(URL, headers=admin())).status_code == 200
    assert await rows(service) == []
    assert (await front.http.delete(URL, headers=admin())).status_code == 404


async def test_case_14_a_derived_row_alone_can_be_deleted(
    front: Gateway, service: Credentials
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    assert (await front.http.get(URL, headers=admin())).status_code == 404
    answer = await front.http.delete(URL, headers=admin())
    assert (answer.status_code, answer.json()) == (200, {"deleted": True})


@pytest.mark.parametrize("payload", ["bm90LXJlYWwtY2lwaGVydGV4dA", "", "{}", "ü"])
async def test_case_15_an_unreadable_row_is_409_and_can_be_deleted(
    front: Gateway, service: Credentials, payload: str
) -> None:
    await put(front)
    async with service.database.acquire() as connection:
        await connection.execute("UPDATE provider_credentials SET payload = $1", payload)
    answer = await front.http.get(URL, headers=admin())
    assert answer.status_code == 409
    assert "cannot be decrypted" in answer.json()["error"]
    assert "BETTER_AUTH_SECRET" in answer.json()["error"]
    assert (await front.http.delete(URL, headers=admin())).status_code == 200


async def test_case_16_another_secret_after_a_restart(
    servers: Servers, database_url: str, fresh_bus: None, tmp_path: Path
) -> None:
    async with (
        credentials_service(servers, database_url, secret="old"),
        gateway(servers, tmp_path / "a") as front,
    ):
        await put(front)
    async with (
        credentials_service(servers, database_url, secret="new"),
        gateway(servers, tmp_path / "b") as front,
    ):
        assert (await front.http.get(URL, headers=admin())).status_code == 409
        repaired = await put(front)
        assert repaired.status_code == 200
        assert (await front.http.get(URL, headers=admin())).status_code == 200
        assert (await front.http.delete(URL, headers=admin())).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"tokenEndpoint": "not-a-url"}, id="case_17"),
        pytest.param({"tokenEndpoint": "http://eu.posthog.com/oauth/token/"}, id="plain_http"),
        pytest.param({"tokenEndpoint": "file:///etc/passwd"}, id="other_scheme"),
        pytest.param({"tokenEndpoint": "http://localhost@evil.example/"}, id="userinfo"),
        pytest.param({"tokenEndpoint": "http://localhost.evil.example/"}, id="look_alike"),
        pytest.param({"tokenEndpoint": "https://169.254.169.254/token"}, id="link_local"),
        pytest.param({"tokenEndpoint": "https://10.0.0.7/oauth/token/"}, id="private"),
        pytest.param({"tokenEndpoint": "https://[::ffff:10.0.0.7]/token"}, id="private_in_ipv6"),
        pytest.param({"clientId": "hogsend"}, id="client_id_no_url"),
        pytest.param({"accessToken": None}, id="case_18"),
        pytest.param({"refreshToken": ""}, id="case_19"),
        pytest.param({"expiresAt": "2026-06-13"}, id="case_20_date"),
        pytest.param({"expiresAt": "2026-06-13T04:00:00"}, id="case_20_no_zone"),
        pytest.param({"expiresAt": "2026-02-30T04:00:00Z"}, id="no_such_day"),
        pytest.param({"expiresAt": "2026-06-13t04:00:00z"}, id="lower_case"),
        pytest.param({"expiresAt": "0001-01-01T00:00:00+14:00"}, id="before_time"),
        pytest.param({"scopes": "person:read person:write"}, id="case_21_scopes"),
        pytest.param({"scopedTeams": [1.5]}, id="case_21_teams"),
    ],
)
async def test_cases_17_to_21_a_bad_payload_is_400_and_stores_nothing(
    front: Gateway, service: Credentials, changes: dict[str, Any]
) -> None:
    answer = await put(front, **changes)
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"]["name"] == "ZodError"
    assert "pha_a" not in answer.text
    assert await rows(service) == []


async def test_case_18_a_missing_access_token_is_400(front: Gateway, service: Credentials) -> None:
    payload = {key: value for key, value in PAYLOAD.items() if key != "accessToken"}
    answer = await front.http.put(URL, json={"payload": payload}, headers=admin())
    assert answer.status_code == 400
    assert "accessToken" in answer.json()["error"]["message"]
    assert await rows(service) == []


@pytest.mark.parametrize("body", [b"{bad", b"", b"\xff", b'{"payload":' + b"[" * 100_000])
async def test_case_22_a_body_that_is_not_json(front: Gateway, body: bytes) -> None:
    answer = await front.http.put(
        URL, content=body, headers={**admin(), "Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json() == {"error": "Malformed JSON in request body"}


async def test_json_that_is_not_declared_as_json_is_400(
    front: Gateway, service: Credentials
) -> None:
    answer = await front.http.put(
        URL, content=b"payload=1", headers={**admin(), "Content-Type": "text/plain"}
    )
    assert answer.status_code == 400
    assert await rows(service) == []


@pytest.mark.parametrize(
    "expires",
    ["2026-12-13T04:00Z", "2026-12-13T06:30:00.5+02:30", "2026-12-13T04:00:00.000000000Z"],
)
async def test_every_spelling_of_an_instant_is_normalised(front: Gateway, expires: str) -> None:
    answer = await put(front, expiresAt=expires)
    assert answer.json()["expiresAt"].startswith("2026-12-13T04:00:00.")


async def test_case_23_what_was_saved_is_loaded(front: Gateway, service: Credentials) -> None:
    await put(front)
    stored = await loaded(service, "oauth", OAuthPayload)
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


async def test_case_24_the_two_kinds_do_not_touch_each_other(
    front: Gateway, service: Credentials
) -> None:
    derived = DerivedPayload(
        webhook_secret="w", project_api_key="phc_x", project_id="4242", private_host="https://h"
    )
    await service.credentials.put_derived("posthog", derived)
    await put(front)
    assert await loaded(service, "derived", DerivedPayload) == derived
    assert (await loaded(service, "oauth", OAuthPayload)) is not None


async def test_case_25_a_derived_save_replaces_the_whole(service: Credentials) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="first"))
    second = DerivedPayload(webhook_secret="second", project_api_key="phc_x")
    await service.credentials.put_derived("posthog", second)
    assert await loaded(service, "derived", DerivedPayload) == second
    assert [row["kind"] for row in await rows(service)] == ["derived"]


@pytest.mark.parametrize("provider", ["%00", "a%0Ab", "x" * 101])
async def test_a_provider_id_that_cannot_be_is_400(front: Gateway, provider: str) -> None:
    url = f"/v1/admin/provider-credentials/{provider}"
    assert (await front.http.get(url, headers=admin())).status_code == 400


async def test_the_change_is_on_the_bus_before_put_answers(
    servers: Servers, front: Gateway, service: Credentials
) -> None:
    async with connected(servers, User.SUBSCRIBER) as bus:
        changes = Client(bus).credential_changes("posthog")
        await put(front)
        stored = await anext(changes)
        await front.http.delete(URL, headers=admin())
        deleted = await anext(changes)
        last = await _last(bus)
    assert (stored.change, stored.kinds, stored.scopes) == ("stored", ["oauth"], PAYLOAD["scopes"])
    assert stored.expires_at == EXPIRES
    assert (deleted.change, deleted.kinds, deleted.changed_kinds) == ("deleted", [], ["oauth"])
    assert deleted.version > stored.version
    assert last == deleted


async def test_a_change_that_could_not_be_published_is_published_later(
    servers: Servers, service: Credentials
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    await service.relay.relay_pending()
    async with connected(servers, User.SUBSCRIBER) as bus:
        change = await asyncio.wait_for(anext(Client(bus).credential_changes()), 10)
    assert change.kinds == ["derived"]


async def _last(bus: Connection) -> CredentialChanged:
    return await anext(Client(bus).credential_changes())
