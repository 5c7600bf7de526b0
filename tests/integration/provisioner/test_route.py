"""Acceptance cases 12.3, provision-loop over HTTP, and 125, its secret at the webhook."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_TOKEN,
    DerivedPayload,
    ProviderRef,
    TokenRequest,
)
from hogsend.contract.errors import Forbidden
from hogsend.contract.provisioning import PROVISIONER_PROVISION, ProvisionLoop
from hogsend.contract.users import User
from hogsend.urls import is_loopback
from services.provisioner.destination.drift import SECRET_HEADER
from tests.integration.harness import READ_KEY, admin, connected, gateway
from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.world import (
    DIAGNOSIS,
    NOWHERE,
    SECRET,
    URL,
    WEBHOOK_URL,
    WITH_SECRET,
    World,
    inputs,
)
from tests.posthog_recorder import Recorder
from tests.servers import Servers


def sent_secret(posthog: Recorder) -> str:
    (body,) = posthog.bodies("POST")
    return str(body["inputs"]["headers"]["value"][SECRET_HEADER])


async def test_case_36_without_a_credential_nothing_is_asked(start: Start) -> None:
    async with start(connected=False) as running:
        answer = await running.provision()
        assert (answer.status_code, answer.json()) == (409, {"error": "no_posthog_credential"})
        assert running.posthog.requests == []
        assert await running.derived() is None


async def test_case_37_without_posthog_settings(start: Start) -> None:
    async with start(environment=NOWHERE) as running:
        answer = await running.provision()
    assert (answer.status_code, answer.json()) == (409, {"error": "posthog_not_configured"})


async def test_case_38_a_loopback_public_url(start: Start) -> None:
    async with start(public_url="http://localhost:3002") as running:
        answer = await running.provision()
        assert await running.derived() is None
    body = answer.json()
    assert answer.status_code == 409
    assert set(body) == {"error", "detail", "remediation"}
    assert body["error"] == "api_public_url_unreachable"
    assert "http://localhost:3002" in body["detail"]
    assert "--provision-only" in body["remediation"]
    assert running.posthog.requests == []


async def test_the_checks_are_made_in_the_seeds_order(start: Start) -> None:
    nothing = {"environment": NOWHERE, "public_url": "http://localhost:3002"}
    no_minting = {"settings": {"posthog_mint_webhook_secret": False}}
    async with start(**nothing, **no_minting, connected=False) as running:
        codes = [(await running.provision()).json()["error"]]
        await running.connect()
        codes.append((await running.provision()).json()["error"])
    async with start(public_url="http://localhost:3002", **no_minting) as running:
        codes.append((await running.provision()).json()["error"])
        codes.append((await running.provision("?placeholder=true")).json()["error"])
    assert codes == [
        "no_posthog_credential",
        "posthog_not_configured",
        "api_public_url_unreachable",
        "webhook_secret_missing",
    ]
    assert running.posthog.requests == []


async def test_cases_39_and_40_a_secret_is_minted_and_the_project_kept(start: Start) -> None:
    async with start() as running:
        answer = await running.provision()
        derived = await running.derived()
    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    secret = sent_secret(running.posthog)
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    assert derived == DerivedPayload(
        webhook_secret=secret,
        project_api_key="phc_grabbed",
        project_id="4242",
        private_host=running.posthog.url,
    )


async def test_a_minted_secret_is_stored_before_posthog_is_asked(start: Start) -> None:
    async with start() as running:
        running.posthog.refuse("GET", "/api/projects/", 500)
        assert (await running.provision()).status_code == 502
        derived = await running.derived()
    assert derived is not None
    assert re.fullmatch(r"[0-9a-f]{64}", derived.webhook_secret or "")


async def test_case_41_with_a_secret_and_a_project_id(start: Start) -> None:
    async with start(environment={**WITH_SECRET, "posthog_project_id": "4242"}) as running:
        answer = await running.provision()
    posthog = running.posthog
    assert answer.status_code == 200
    assert answer.json() == {
        "provisioned": True,
        "created": True,
        "action": "created",
        "hogFunctionId": "fn-1",
        "webhookUrl": WEBHOOK_URL,
        "dashboardUrl": f"{posthog.url}/project/4242/pipeline/destinations/hog-fn-1/configuration",
        "enabled": True,
    }
    assert not any("@current" in line for line in posthog.lines())
    assert {request.headers["authorization"] for request in posthog.requests} == {"Bearer pha_a"}


async def test_case_42_an_environment_secret_is_not_stored(running: World) -> None:
    assert (await running.provision()).is_success
    derived = await running.derived()
    assert derived is not None
    assert derived.webhook_secret is None
    assert sent_secret(running.posthog) == SECRET


async def test_case_43_a_missing_scope(running: World) -> None:
    running.posthog.refuse(".*", ".*", 403, {"detail": "API key missing required scope"})
    answer = await running.provision()
    body = answer.json()
    assert answer.status_code == 502
    assert set(body) == {"error", "detail", "remediation"}
    assert body["error"] == "missing-scope"
    assert "403" in body["detail"]
    assert "hog_function:write" in body["remediation"]


async def test_case_44_a_personal_key_alone(start: Start) -> None:
    async with start(connected=False, personal_key="phx_key") as running:
        answer = await running.provision()
    assert answer.status_code == 200
    used = {request.headers["authorization"] for request in running.posthog.requests}
    assert used == {"Bearer phx_key"}


async def test_case_45_oauth_comes_before_the_personal_key(start: Start) -> None:
    async with start(personal_key="phx_key") as running:
        assert (await running.provision()).is_success
    used = {request.headers["authorization"] for request in running.posthog.requests}
    assert used == {"Bearer pha_a"}


async def test_case_46_a_placeholder_from_a_laptop(start: Start) -> None:
    async with start(public_url="http://localhost:3002") as running:
        answer = await running.provision("?placeholder=true")
    (body,) = running.posthog.bodies("POST")
    assert answer.status_code == 200
    assert answer.json()["enabled"] is False
    assert answer.json()["webhookUrl"] == "https://CHANGEME.yourdomain.com/v1/webhooks/posthog"
    assert body["enabled"] is False
    assert body["inputs"]["url"]["value"] == answer.json()["webhookUrl"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"placeholder": true}'])
async def test_case_47_the_body_is_ignored(running: World, content: bytes) -> None:
    answer = await running.front.http.post(URL, content=content, headers=admin())
    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    assert answer.json()["enabled"] is True


@pytest.mark.parametrize("query", ["True", "1", "", "yes", "false,true"])
async def test_an_odd_placeholder_is_400(running: World, query: str) -> None:
    answer = await running.provision(f"?placeholder={query}&other=1")
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"]["name"] == "ZodError"
    assert "placeholder" in answer.json()["error"]["message"]
    assert running.posthog.requests == []


async def test_other_query_keys_are_ignored(running: World) -> None:
    assert (await running.provision("?placeholder=false&other=1")).status_code == 200


OUTCOMES: dict[str, Any] = {
    "created": [],
    "unauthorized": [("GET", "/api/projects/", 401)],
    "missing-scope": [("GET", "hog_functions", 403)],
    "unsupported-instance": [("GET", "hog_functions", 404)],
    "project-discovery-failed": [("GET", "/api/projects/", 500)],
    "api-error": [("POST", "hog_functions", 400)],
}


@pytest.mark.parametrize("minted", [True, False], ids=["minted", "environment"])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_case_48_no_outcome_shows_a_secret(
    start: Start,
    outcome: str,
    minted: bool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for noisy in ("httpcore", "httpx"):  # as `hogsend.service.logs` sets them
        caplog.set_level(logging.WARNING, noisy)
    async with start(environment={} if minted else WITH_SECRET) as running:
        derived = DerivedPayload(webhook_secret="minted-secret") if minted else DerivedPayload()
        await running.credentials.vault.put_derived("posthog", derived)
        for method, path, status in OUTCOMES[outcome]:
            # PostHog may repeat whatever it was sent.
            said = f"pha_a {SECRET} minted-secret " * 20
            running.posthog.refuse(method, path, status, {"detail": said})
        answer = await running.provision()
        diagnosis = json.dumps(await running.diagnose())
        metrics = (await running.front.http.get("/metrics", headers=admin())).text
    code = answer.json().get("error", answer.json().get("action"))
    assert code == outcome
    stdout, stderr = capfd.readouterr()
    secret = "minted-secret" if minted else SECRET
    assert "provisioned" in stdout
    for seen in (answer.text, diagnosis, metrics, stdout, stderr, caplog.text):
        for hidden in (secret, "pha_a", "phr_r", "phc_grabbed"):
            assert hidden not in seen


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:3002", True),
        ("http://127.0.0.1:3002", True),
        ("http://0.0.0.0:8080", True),
        ("http://[::1]:3002", True),
        ("https://api.myapp.localhost", True),
        ("https://t.hogsend.com", False),
        ("https://api.example.com:8443", False),
        ("not a url", False),
    ],
)
def test_case_49_loopback_urls(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


async def test_case_125_a_minted_secret_is_enforced_at_once(start: Start) -> None:
    delivery = {"event": {"event": "signed_up", "distinct_id": "u", "uuid": "1"}, "person": {}}
    async with start() as running:
        webhook = "/v1/webhooks/posthog"
        open_before = await running.front.http.post(webhook, json=delivery)
        assert (await running.provision()).is_success
        without = await running.front.http.post(webhook, json=delivery)
        headers = {SECRET_HEADER: sent_secret(running.posthog)}
        with_it = await running.front.http.post(webhook, json=delivery, headers=headers)
    assert open_before.status_code == 200
    assert (without.status_code, with_it.status_code) == (401, 200)


async def test_minting_can_be_switched_off(start: Start) -> None:
    async with start(settings={"posthog_mint_webhook_secret": False}) as running:
        answer = await running.provision()
        assert await running.derived() is None
        await running.credentials.vault.put_derived(
            "posthog", DerivedPayload(webhook_secret="minted earlier")
        )
        later = await running.provision()
    body = answer.json()
    assert (answer.status_code, body["error"]) == (409, "webhook_secret_missing")
    assert set(body) == {"error", "detail", "remediation"}
    assert "POSTHOG_WEBHOOK_SECRET" in body["remediation"]
    assert later.status_code == 200


async def test_an_unreadable_minted_secret_is_409(start: Start) -> None:
    async with start() as running:
        await running.make_unreadable("derived")
        answer = await running.provision()
    assert (answer.status_code, answer.json()["error"]) == (409, "webhook_secret_missing")
    assert "BETTER_AUTH_SECRET" in answer.json()["detail"]
    assert running.posthog.requests == []


async def test_an_unreadable_derived_row_is_left_alone(running: World) -> None:
    await running.make_unreadable("derived")
    answer = await running.provision()
    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    assert (await running.credentials.vault.derived("posthog")).state == "unreadable"


async def test_an_unreadable_oauth_row_is_no_credential(running: World) -> None:
    await running.make_unreadable("oauth")
    answer = await running.provision()
    assert (answer.status_code, answer.json()) == (409, {"error": "no_posthog_credential"})


async def test_without_the_provisioner_it_is_a_typed_503(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answers = [
            await front.http.post(URL, headers=admin()),
            await front.http.get(DIAGNOSIS, headers=admin()),
        ]
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json() == {
            "error": "the provisioner service is not running",
            "code": "unavailable",
        }
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("method", "url"), [("POST", URL), ("GET", DIAGNOSIS)])
async def test_both_routes_need_an_admin_key(running: World, method: str, url: str) -> None:
    nobody = await running.front.http.request(method, url)
    reader = await running.front.http.request(method, url, headers=admin(READ_KEY))
    assert (nobody.status_code, reader.status_code) == (401, 403)
    assert running.posthog.requests == []


async def test_both_routes_are_documented(running: World) -> None:
    paths = (await running.front.http.get("/docs/openapi.json")).json()["paths"]
    assert {"200", "400", "401", "403", "409", "502", "503"} <= set(paths[URL]["post"]["responses"])
    assert {"200", "401", "403", "503"} <= set(paths[DIAGNOSIS]["get"]["responses"])


async def test_the_gateway_may_ask_for_neither_secret_nor_token(running: World) -> None:
    bus = running.front.bus
    with pytest.raises(Forbidden):
        await bus.request(CREDENTIALS_GET_DERIVED, ProviderRef(provider_id="posthog"))
    with pytest.raises(Forbidden):
        await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))


@pytest.mark.parametrize("user", [User.INGEST, User.SUBSCRIBER])
async def test_others_may_not_provision(servers: Servers, running: World, user: User) -> None:
    async with connected(servers, user) as bus:
        with pytest.raises(Forbidden):
            await bus.request(PROVISIONER_PROVISION, ProvisionLoop())


async def test_health_names_the_provisioner(running: World) -> None:
    health = (await running.front.http.get("/v1/health")).json()
    assert health["services"]["provisioner"]["status"] == "up"
    assert "provisioner/0001" in health["schema"]["engine"]["applied"]


async def test_provisioning_again_is_no_credential_event(running: World) -> None:
    await running.provision()
    before = (await running.credentials.vault.status("posthog")).version
    assert (await running.provision()).json()["action"] == "unchanged"
    assert (await running.credentials.vault.status("posthog")).version == before


async def test_a_derived_row_keeps_what_it_had(start: Start) -> None:
    async with start() as running:
        running.posthog.add("fn-9", inputs=inputs())
        stored = DerivedPayload(webhook_secret="kept", project_id="1")
        await running.credentials.vault.put_derived("posthog", stored)
        await running.provision()
        derived = await running.derived()
    assert derived is not None
    assert (derived.webhook_secret, derived.project_id) == ("kept", "4242")
