"""Acceptance cases 12.1 that the gateway decides by itself: bodies, timestamps and responses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from hogsend.contract.credentials import (
    CREDENTIALS_GET,
    CREDENTIALS_PUT,
    CredentialMeta,
    OAuthPayload,
    PutCredential,
)
from hogsend.contract.errors import CannotUnseal, InvalidRequest, NotFound
from tests.unit.gateway.fakes import FakeGateway, bearer

URL = "/v1/admin/provider-credentials/posthog"
MOMENT = datetime(2026, 12, 13, 4, 0, 0, 500_000, UTC)
PAYLOAD: dict[str, Any] = {
    "accessToken": "pha_a",
    "refreshToken": "phr_r",
    "expiresAt": "2026-12-13T04:00:00Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read", "person:write"],
    "scopedTeams": [199032],
    "scopedOrganizations": ["0190aa51-6a70-0000-5c6d-2b5ea0c8a2d9"],
}
JSON = {**bearer(), "Content-Type": "application/json"}


def meta(**changes: Any) -> CredentialMeta:
    return CredentialMeta(
        **{
            "provider_id": "posthog",
            "kind": "oauth",
            "scopes": ["person:read"],
            "expires_at": MOMENT,
            "scoped_teams": [199032],
            "created_at": MOMENT.astimezone(timezone(timedelta(hours=2))),
            "updated_at": MOMENT,
            **changes,
        }
    )


async def put(gateway: FakeGateway, **changes: Any) -> httpx.Response:
    gateway.bus.reply_with(CREDENTIALS_PUT, meta())
    body = {"payload": {**PAYLOAD, **changes}}
    return await gateway.http.put(URL, json=body, headers=bearer())


def stored(gateway: FakeGateway) -> OAuthPayload:
    (request,) = gateway.bus.sent
    assert isinstance(request.message, PutCredential)
    assert request.message.provider_id == "posthog"
    return request.message.payload


async def test_every_field_of_a_grant_is_sent_to_the_credentials_service(
    gateway: FakeGateway,
) -> None:
    assert (await put(gateway)).status_code == 200
    assert stored(gateway) == OAuthPayload(
        access_token="pha_a",
        refresh_token="phr_r",
        expires_at=datetime(2026, 12, 13, 4, tzinfo=UTC),
        token_endpoint=PAYLOAD["tokenEndpoint"],
        client_id=PAYLOAD["clientId"],
        scopes=PAYLOAD["scopes"],
        scoped_teams=PAYLOAD["scopedTeams"],
        scoped_organizations=PAYLOAD["scopedOrganizations"],
    )


async def test_a_refused_grant_has_its_reason_as_text_as_upstreams_command_expects(
    gateway: FakeGateway,
) -> None:
    why = "payload.tokenEndpoint must be https; http only at a host in OUTBOUND_ALLOW"
    gateway.bus.reply_with(CREDENTIALS_PUT, InvalidRequest(why))
    response = await gateway.http.put(URL, json={"payload": PAYLOAD}, headers=bearer())
    assert (response.status_code, response.json()) == (400, {"error": why})


async def test_timestamps_in_responses_are_in_utc_with_milliseconds(gateway: FakeGateway) -> None:
    response = await put(gateway)
    assert response.json() == {
        "providerId": "posthog",
        "kind": "oauth",
        "scopes": ["person:read"],
        "expiresAt": "2026-12-13T04:00:00.500Z",
        "scopedTeams": [199032],
        "createdAt": "2026-12-13T04:00:00.500Z",
        "updatedAt": "2026-12-13T04:00:00.500Z",
    }


async def test_needs_reconnect_is_omitted_unless_true(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(CREDENTIALS_GET, meta(needs_reconnect=True))
    credential = (await gateway.http.get(URL, headers=bearer())).json()
    gateway.bus.reply_with(CREDENTIALS_GET, meta())
    assert credential["needsReconnect"] is True
    assert "needsReconnect" not in (await gateway.http.get(URL, headers=bearer())).json()


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("Provider credential not found"), 404), (CannotUnseal("cannot be decrypted"), 409)],
)
async def test_a_missing_or_undecryptable_credential_has_the_status_of_its_error(
    gateway: FakeGateway, error: Any, status: int
) -> None:
    gateway.bus.reply_with(CREDENTIALS_GET, error)
    response = await gateway.http.get(URL, headers=bearer())
    assert (response.status_code, response.json()) == (status, {"error": str(error)})


@pytest.mark.parametrize(
    "changes",
    [
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
async def test_cases_18_to_21_a_bad_payload_is_400_and_stores_nothing(
    gateway: FakeGateway, changes: dict[str, Any]
) -> None:
    response = await put(gateway, **changes)
    assert response.status_code == 400
    assert response.json()["success"] is False
    assert response.json()["error"]["name"] == "ZodError"
    assert "pha_a" not in response.text
    assert gateway.bus.sent == []


async def test_case_18_a_missing_access_token_is_400(gateway: FakeGateway) -> None:
    payload = {key: value for key, value in PAYLOAD.items() if key != "accessToken"}
    response = await gateway.http.put(URL, json={"payload": payload}, headers=bearer())
    assert response.status_code == 400
    (issue,) = json.loads(response.json()["error"]["message"])
    assert (issue["message"], issue["path"]) == ("Required", ["payload", "accessToken"])
    assert gateway.bus.sent == []


@pytest.mark.parametrize("body", [b"{bad", b"", b"\xff"])
async def test_case_22_a_body_that_is_not_json(gateway: FakeGateway, body: bytes) -> None:
    response = await gateway.http.put(URL, content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json() == {"error": "Malformed JSON in request body"}


@pytest.mark.parametrize("body", [b"payload=1", json.dumps({"payload": PAYLOAD}).encode()])
async def test_json_that_is_not_declared_as_json_is_400(gateway: FakeGateway, body: bytes) -> None:
    headers = {**bearer(), "Content-Type": "text/plain"}
    response = await gateway.http.put(URL, content=body, headers=headers)
    assert response.status_code == 400
    assert gateway.bus.sent == []


async def test_a_json_media_type_with_a_suffix_is_json(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(CREDENTIALS_PUT, meta())
    headers = {**bearer(), "Content-Type": "application/vnd.hogsend+json"}
    body = json.dumps({"payload": PAYLOAD}).encode()
    assert (await gateway.http.put(URL, content=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("expires", "microseconds"),
    [
        ("2026-12-13T04:00Z", 0),
        ("2026-12-13T06:30:00.5+02:30", 500_000),
        ("2026-12-13T04:00:00.000000000Z", 0),
        ("2026-12-12T23:00:00.25-05:00", 250_000),
    ],
)
async def test_every_spelling_of_an_instant_is_normalised(
    gateway: FakeGateway, expires: str, microseconds: int
) -> None:
    assert (await put(gateway, expiresAt=expires)).status_code == 200
    assert stored(gateway).expires_at == MOMENT.replace(microsecond=microseconds)


@pytest.mark.parametrize("provider", ["%00", "a%0Ab", "x" * 101])
async def test_an_invalid_provider_id_is_400(gateway: FakeGateway, provider: str) -> None:
    url = f"/v1/admin/provider-credentials/{provider}"
    assert (await gateway.http.get(url, headers=bearer())).status_code == 400
    assert gateway.bus.sent == []
