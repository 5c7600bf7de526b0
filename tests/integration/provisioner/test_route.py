"""Acceptance cases 12.3 over HTTP, bus and real credentials, and 125, the secret at the webhook.

Decisions of the domain are tested without servers in tests/unit/provisioner.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.urls import is_loopback
from tests.destinations import PLACEHOLDER_URL, SECRET, WEBHOOK_URL
from tests.integration.harness import admin, gateway_service
from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.driver import DIAGNOSIS, NOWHERE, URL, WITH_SECRET, Driver
from tests.posthog_recorder import Recorder
from tests.servers import Servers

LOOPBACK = "http://localhost:3002"


def sent_secret(posthog: Recorder) -> str:
    (body,) = posthog.bodies("POST")
    return str(body["inputs"]["headers"]["value"][SECRET_HEADER])


async def test_cases_36_to_38_provisioning_without_a_prerequisite_is_409(start: Start) -> None:
    async with start(environment=NOWHERE, public_url=LOOPBACK, connected=False) as driver:
        case_36 = await driver.provision()
        await driver.connect()
        case_37 = await driver.provision()
    async with start(public_url=LOOPBACK) as driver:
        case_38 = await driver.provision()
        assert await driver.derived() is None
    assert {case_36.status_code, case_37.status_code, case_38.status_code} == {409}
    assert case_36.json() == {"error": "no_posthog_credential"}
    assert case_37.json() == {"error": "posthog_not_configured"}
    body = case_38.json()
    assert set(body) == {"error", "detail", "remediation"}
    assert body["error"] == "api_public_url_unreachable"
    assert LOOPBACK in body["detail"]
    assert "--provision-only" in body["remediation"]
    assert driver.posthog.requests == []


async def test_cases_39_40_and_125_a_generated_secret_is_stored_and_enforced_at_once(
    start: Start,
) -> None:
    delivery = {"event": {"event": "signed_up", "distinct_id": "u", "uuid": "1"}, "person": {}}
    async with start() as driver:
        webhook = "/v1/webhooks/posthog"
        open_before = await driver.gateway.http.post(webhook, json=delivery)
        response = await driver.provision()
        without_secret = await driver.gateway.http.post(webhook, json=delivery)
        secret = sent_secret(driver.posthog)
        headers = {SECRET_HEADER: secret}
        with_secret = await driver.gateway.http.post(webhook, json=delivery, headers=headers)
        derived = await driver.derived()
    assert (response.status_code, response.json()["action"]) == (200, "created")
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    assert derived == DerivedPayload(
        webhook_secret=secret,
        project_api_key="phc_grabbed",
        project_id="4242",
        private_host=driver.posthog.url,
    )
    assert open_before.status_code == 200
    assert (without_secret.status_code, with_secret.status_code) == (401, 200)


async def test_cases_41_42_and_68_a_configured_project_and_secret_are_used(start: Start) -> None:
    async with start(environment={**WITH_SECRET, "posthog_project_id": "4242"}) as driver:
        response = await driver.provision()
        version = (await driver.credentials.credentials.status("posthog")).version
        again = await driver.provision()
        derived = await driver.derived()
        assert (await driver.credentials.credentials.status("posthog")).version == version
    posthog = driver.posthog
    assert response.status_code == 200
    assert response.json() == {
        "provisioned": True,
        "created": True,
        "action": "created",
        "hogFunctionId": "fn-1",
        "webhookUrl": WEBHOOK_URL,
        "dashboardUrl": f"{posthog.url}/project/4242/pipeline/destinations/hog-fn-1/configuration",
        "enabled": True,
        "signed": False,
        "unsignedBecause": "unsupported",
    }
    assert again.json()["action"] == "unchanged"
    assert not any("@current" in line for line in posthog.lines())
    assert {request.headers["authorization"] for request in posthog.requests} == {"Bearer pha_a"}
    assert sent_secret(posthog) == SECRET
    assert derived is not None
    assert derived.webhook_secret is None


async def test_case_43_a_missing_scope_is_502_with_the_remedy(driver: Driver) -> None:
    driver.posthog.refuse(".*", ".*", 403, {"detail": "API key missing required scope"})
    response = await driver.provision()
    body = response.json()
    assert response.status_code == 502
    assert set(body) == {"error", "detail", "remediation"}
    assert body["error"] == "missing-scope"
    assert "403" in body["detail"]
    assert "hog_function:write" in body["remediation"]


async def test_cases_44_and_45_an_oauth_grant_is_preferred_to_the_personal_key(
    start: Start,
) -> None:
    async with start(connected=False, personal_key="phx_key") as driver:
        assert (await driver.provision()).is_success
        case_44 = [request.headers["authorization"] for request in driver.posthog.requests]
        driver.posthog.requests.clear()
        await driver.connect()
        assert (await driver.provision()).is_success
        case_45 = [request.headers["authorization"] for request in driver.posthog.requests]
    assert set(case_44) == {"Bearer phx_key"}
    assert set(case_45) == {"Bearer pha_a"}


async def test_case_46_a_placeholder_is_created_disabled_for_a_loopback_address(
    start: Start,
) -> None:
    async with start(public_url=LOOPBACK) as driver:
        response = await driver.provision("?placeholder=true&other=1")
    (body,) = driver.posthog.bodies("POST")
    assert response.status_code == 200
    assert (response.json()["enabled"], response.json()["webhookUrl"]) == (False, PLACEHOLDER_URL)
    assert (body["enabled"], body["inputs"]["url"]["value"]) == (False, PLACEHOLDER_URL)


async def test_case_47_the_body_of_the_request_is_ignored(driver: Driver) -> None:
    actions = []
    for content in (b'{"placeholder": true}', b"", b"{"):
        response = await driver.gateway.http.post(URL, content=content, headers=admin())
        assert (response.status_code, response.json()["enabled"]) == (200, True)
        actions.append(response.json()["action"])
    assert actions == ["created", "unchanged", "unchanged"]


OUTCOMES: dict[str, tuple[str, str, int] | None] = {
    "unauthorized": ("GET", "/api/projects/", 401),
    "missing-scope": ("GET", "hog_functions", 403),
    "api-error": ("POST", "hog_functions", 400),
    "created": None,
}


@pytest.mark.parametrize("minted", [True, False], ids=["minted", "environment"])
async def test_case_48_no_response_log_or_metric_contains_a_secret(
    start: Start,
    minted: bool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for noisy in ("httpcore", "httpx"):  # as `hogsend.service.logs` sets them
        caplog.set_level(logging.WARNING, noisy)
    shown: list[str] = []
    async with start(environment={} if minted else WITH_SECRET) as driver:
        derived = DerivedPayload(webhook_secret="minted-secret") if minted else DerivedPayload()
        await driver.credentials.credentials.put_derived("posthog", derived)
        for outcome, refusal in OUTCOMES.items():
            driver.posthog.answers.clear()
            if refusal is not None:
                # PostHog may repeat any part of a request in its response.
                echo = f"pha_a {SECRET} minted-secret " * 20
                method, path, status = refusal
                driver.posthog.refuse(method, path, status, {"detail": echo})
            response = await driver.provision()
            assert response.json().get("error", response.json().get("action")) == outcome
            shown += [response.text, json.dumps(await driver.diagnose())]
        shown.append((await driver.gateway.http.get("/metrics", headers=admin())).text)
    stdout, stderr = capfd.readouterr()
    assert "provisioned" in stdout
    for output in (*shown, stdout, stderr, caplog.text):
        for hidden in ("minted-secret" if minted else SECRET, "pha_a", "phr_r", "phc_grabbed"):
            assert hidden not in output


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
def test_case_49_loopback_urls_are_recognized(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


async def test_a_run_with_undecryptable_rows_is_409(start: Start) -> None:
    async with start() as driver:
        await driver.make_unreadable("derived")
        secret = await driver.provision()
        await driver.make_unreadable("oauth")
        grant = await driver.provision()
        assert driver.posthog.requests == []
        report = await driver.diagnose()
    assert (secret.status_code, secret.json()["error"]) == (409, "webhook_secret_missing")
    assert "BETTER_AUTH_SECRET" in secret.json()["detail"]
    assert (grant.status_code, grant.json()) == (409, {"error": "no_posthog_credential"})
    assert (report["credential"]["state"], report["webhookSecret"]["state"]) == (
        "unreadable",
        "unreadable",
    )


async def test_both_routes_are_a_typed_503_without_the_provisioner(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with gateway_service(servers, tmp_path, posthog=WITH_SECRET) as running:
        responses = [
            await running.http.post(URL, headers=admin()),
            await running.http.get(DIAGNOSIS, headers=admin()),
        ]
    for response in responses:
        assert response.status_code == 503
        assert response.json() == {
            "error": "the provisioner service is not running",
            "code": "unavailable",
        }
        assert int(response.headers["retry-after"]) > 0
