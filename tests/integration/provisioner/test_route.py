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
from tests.integration.provisioner.driver import (
    DIAGNOSIS,
    NOWHERE,
    SECRET,
    URL,
    WEBHOOK_URL,
    WITH_SECRET,
    Driver,
    inputs,
)
from tests.posthog_recorder import Recorder
from tests.servers import Servers


def sent_secret(posthog: Recorder) -> str:
    (body,) = posthog.bodies("POST")
    return str(body["inputs"]["headers"]["value"][SECRET_HEADER])


async def test_case_36_without_a_credential_nothing_is_asked(start: Start) -> None:
    async with start(connected=False) as driver:
        answer = await driver.provision()
        assert (answer.status_code, answer.json()) == (409, {"error": "no_posthog_credential"})
        assert driver.posthog.requests == []
        assert await driver.derived() is None


async def test_case_37_without_posthog_settings(start: Start) -> None:
    async with start(environment=NOWHERE) as driver:
        answer = await driver.provision()
    assert (answer.status_code, answer.json()) == (409, {"error": "posthog_not_configured"})


async def test_case_38_a_loopback_public_url(start: Start) -> None:
    async with start(public_url="http://localhost:3002") as driver:
        answer = await driver.provision()
        assert await driver.derived() is None
    body = answer.json()
    assert answer.status_code == 409
    assert set(body) == {"error", "detail", "remediation"}
    assert body["error"] == "api_public_url_unreachable"
    assert "http://localhost:3002" in body["detail"]
    assert "--provision-only" in body["remediation"]
    assert driver.posthog.requests == []


async def test_the_checks_are_made_in_the_seeds_order(start: Start) -> None:
    nothing = {"environment": NOWHERE, "public_url": "http://localhost:3002"}
    no_minting = {"settings": {"posthog_mint_webhook_secret": False}}
    async with start(**nothing, **no_minting, connected=False) as driver:
        codes = [(await driver.provision()).json()["error"]]
        await driver.connect()
        codes.append((await driver.provision()).json()["error"])
    async with start(public_url="http://localhost:3002", **no_minting) as driver:
        codes.append((await driver.provision()).json()["error"])
        codes.append((await driver.provision("?placeholder=true")).json()["error"])
    assert codes == [
        "no_posthog_credential",
        "posthog_not_configured",
        "api_public_url_unreachable",
        "webhook_secret_missing",
    ]
    assert driver.posthog.requests == []


async def test_cases_39_and_40_a_secret_is_minted_and_the_project_kept(start: Start) -> None:
    async with start() as driver:
        answer = await driver.provision()
        derived = await driver.derived()
    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    secret = sent_secret(driver.posthog)
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    assert derived == DerivedPayload(
        webhook_secret=secret,
        project_api_key="phc_grabbed",
        project_id="4242",
        private_host=driver.posthog.url,
    )


async def test_a_minted_secret_is_stored_before_posthog_is_asked(start: Start) -> None:
    async with start() as driver:
        driver.posthog.refuse("GET", "/api/projects/", 500)
        assert (await driver.provision()).status_code == 502
        derived = await driver.derived()
    assert derived is not None
    assert re.fullmatch(r"[0-9a-f]{64}", derived.webhook_secret or "")


async def test_case_41_with_a_secret_and_a_project_id(start: Start) -> None:
    async with start(environment={**WITH_SECRET, "posthog_project_id": "4242"}) as driver:
        answer = await driver.provision()
    posthog = driver.posthog
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


async def test_case_42_an_environment_secret_is_not_stored(driver: Driver) -> None:
    assert (await driver.provision()).is_success
    derived = await driver.derived()
    assert derived is not None
    assert derived.webhook_secret is None
    assert sent_secret(driver.posthog) == SECRET


async def test_case_43_a_missing_scope(driver: Driver) -> None:
    driver.posthog.refuse(".*", ".*", 403, {"detail": "API key missing required scope"})
    answer = await driver.provision()
    body = answer.json()
    assert answer.status_code == 502
    assert set(body) == {"error", "detail", "remediation"}
    assert body["error"] == "missing-scope"
    assert "403" in body["detail"]
    assert "hog_function:write" in body["remediation"]


async def test_case_44_a_personal_key_alone(start: Start) -> None:
    async with start(connected=False, personal_key="phx_key") as driver:
        answer = await driver.provision()
    assert answer.status_code == 200
    used = {request.headers["authorization"] for request in driver.posthog.requests}
    assert used == {"Bearer phx_key"}


async def test_case_45_oauth_comes_before_the_personal_key(start: Start) -> None:
    async with start(personal_key="phx_key") as driver:
        assert (await driver.provision()).is_success
    used = {request.headers["authorization"] for request in driver.posthog.requests}
    assert used == {"Bearer pha_a"}


async def test_case_46_a_placeholder_from_a_laptop(start: Start) -> None:
    async with start(public_url="http://localhost:3002") as driver:
        answer = await driver.provision("?placeholder=true")
    (body,) = driver.posthog.bodies("POST")
    assert answer.status_code == 200
    assert answer.json()["enabled"] is False
    assert answer.json()["webhookUrl"] == "https://CHANGEME.yourdomain.com/v1/webhooks/posthog"
    assert body["enabled"] is False
    assert body["inputs"]["url"]["value"] == answer.json()["webhookUrl"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"placeholder": true}'])
async def test_case_47_the_body_is_ignored(driver: Driver, content: bytes) -> None:
    answer = await driver.gateway.http.post(URL, content=content, headers=admin())
    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    assert answer.json()["enabled"] is True


@pytest.mark.parametrize("query", ["True", "1", "", "yes", "false,true"])
async def test_an_odd_placeholder_is_400(driver: Driver, query: str) -> None:
    answer = await driver.provision(f"?placeholder={query}&other=1")
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"]["name"] == "ZodError"
    assert "placeholder" in answer.json()["error"]["message"]
    assert driver.posthog.requests == []


async def test_other_query_keys_are_ignored(driver: Driver) -> None:
    assert (await driver.provision("?placeholder=false&other=1")).status_code == 200


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
    async with start(environment={} if minted else WITH_SECRET) as driver:
        derived = DerivedPayload(webhook_secret="minted-secret") if minted else DerivedPayload()
        await driver.credentials.credentials.put_derived("posthog", derived)
        for method, path, status in OUTCOMES[outcome]:
            # PostHog may repeat whatever it was sent.
            said = f"pha_a {SECRET} minted-secret " * 20
            driver.posthog.refuse(method, path, status, {"detail": said})
        answer = await driver.provision()
        diagnosis = json.dumps(await driver.diagnose())
        metrics = (await driver.gateway.http.get("/metrics", headers=admin())).text
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
    async with start() as driver:
        webhook = "/v1/webhooks/posthog"
        open_before = await driver.gateway.http.post(webhook, json=delivery)
        assert (await driver.provision()).is_success
        without = await driver.gateway.http.post(webhook, json=delivery)
        headers = {SECRET_HEADER: sent_secret(driver.posthog)}
        with_it = await driver.gateway.http.post(webhook, json=delivery, headers=headers)
    assert open_before.status_code == 200
    assert (without.status_code, with_it.status_code) == (401, 200)


async def test_minting_can_be_switched_off(start: Start) -> None:
    async with start(settings={"posthog_mint_webhook_secret": False}) as driver:
        answer = await driver.provision()
        assert await driver.derived() is None
        await driver.credentials.credentials.put_derived(
            "posthog", DerivedPayload(webhook_secret="minted earlier")
        )
        later = await driver.provision()
    body = answer.json()
    assert (answer.status_code, body["error"]) == (409, "webhook_secret_missing")
    assert set(body) == {"error", "detail", "remediation"}
    assert "POSTHOG_WEBHOOK_SECRET" in body["remediation"]
    assert later.status_code == 200


async def test_an_unreadable_minted_secret_is_409(start: Start) -> None:
    async with start() as driver:
        await driver.make_unreadable("derived")
        answer = await driver.provision()
    assert (answer.status_code, answer.json()["error"]) == (409, "webhook_secret_missing")
    assert "BETTER_AUTH_SECRET" in answer.json()["detail"]
    assert driver.posthog.requests == []


async def test_an_unreadable_derived_row_is_left_alone(driver: Driver) -> None:
    await driver.make_unreadable("derived")
    answer = await driver.provision()
    assert (answer.status_code, answer.json()["action"]) == (200, "created")
    assert (await driver.credentials.credentials.derived("posthog")).state == "unreadable"


async def test_an_unreadable_oauth_row_is_no_credential(driver: Driver) -> None:
    await driver.make_unreadable("oauth")
    answer = await driver.provision()
    assert (answer.status_code, answer.json()) == (409, {"error": "no_posthog_credential"})


async def test_without_the_provisioner_it_is_a_typed_503(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as running:
        answers = [
            await running.http.post(URL, headers=admin()),
            await running.http.get(DIAGNOSIS, headers=admin()),
        ]
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json() == {
            "error": "the provisioner service is not running",
            "code": "unavailable",
        }
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("method", "url"), [("POST", URL), ("GET", DIAGNOSIS)])
async def test_both_routes_need_an_admin_key(driver: Driver, method: str, url: str) -> None:
    anonymous = await driver.gateway.http.request(method, url)
    reader = await driver.gateway.http.request(method, url, headers=admin(READ_KEY))
    assert (anonymous.status_code, reader.status_code) == (401, 403)
    assert driver.posthog.requests == []


async def test_both_routes_are_documented(driver: Driver) -> None:
    paths = (await driver.gateway.http.get("/docs/openapi.json")).json()["paths"]
    assert {"200", "400", "401", "403", "409", "502", "503"} <= set(paths[URL]["post"]["responses"])
    assert {"200", "401", "403", "503"} <= set(paths[DIAGNOSIS]["get"]["responses"])


async def test_the_gateway_may_ask_for_neither_secret_nor_token(driver: Driver) -> None:
    bus = driver.gateway.bus
    with pytest.raises(Forbidden):
        await bus.request(CREDENTIALS_GET_DERIVED, ProviderRef(provider_id="posthog"))
    with pytest.raises(Forbidden):
        await bus.request(CREDENTIALS_TOKEN, TokenRequest(provider_id="posthog"))


@pytest.mark.parametrize("user", [User.INGEST, User.SUBSCRIBER])
async def test_others_may_not_provision(servers: Servers, driver: Driver, user: User) -> None:
    async with connected(servers, user) as bus:
        with pytest.raises(Forbidden):
            await bus.request(PROVISIONER_PROVISION, ProvisionLoop())


async def test_health_names_the_provisioner(driver: Driver) -> None:
    health = (await driver.gateway.http.get("/v1/health")).json()
    assert health["services"]["provisioner"]["status"] == "up"
    assert "provisioner/0001" in health["schema"]["engine"]["applied"]


async def test_provisioning_again_is_no_credential_event(driver: Driver) -> None:
    await driver.provision()
    before = (await driver.credentials.credentials.status("posthog")).version
    assert (await driver.provision()).json()["action"] == "unchanged"
    assert (await driver.credentials.credentials.status("posthog")).version == before


async def test_a_derived_row_keeps_what_it_had(start: Start) -> None:
    async with start() as driver:
        driver.posthog.add("fn-9", inputs=inputs())
        stored = DerivedPayload(webhook_secret="kept", project_id="1")
        await driver.credentials.credentials.put_derived("posthog", stored)
        await driver.provision()
        derived = await driver.derived()
    assert derived is not None
    assert (derived.webhook_secret, derived.project_id) == ("kept", "4242")
