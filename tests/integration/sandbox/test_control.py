"""Faults, the control routes, the front page, and the command `hogsend sandbox`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hogsend.contract.errors import CannotStart
from hogsend.posthog.client_document import CLIENT_ID
from sandbox.app import serving
from sandbox.instance import Instance
from sandbox.options import Options
from tests.integration.sandbox.driver import FUNCTIONS, Driver, Receiver, bearer
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, eventually


async def set_faults(posthog: Driver, **by_area: Any) -> None:
    response = await posthog.http.put("/_sandbox/faults", json=by_area)
    assert response.status_code == 200, response.text


async def test_the_front_page_states_that_it_is_not_posthog(posthog: Driver) -> None:
    about = (await posthog.http.get("/")).json()
    assert "not PostHog" in about["what"]
    assert about["project_id"] == 4242


async def test_a_rate_limited_api_responds_like_posthog(posthog: Driver) -> None:
    await set_faults(posthog, api={"status": 429, "retry_after": 30})
    response = await posthog.http.get(FUNCTIONS, headers=posthog.key)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "30"
    assert response.json() == {
        "type": "throttled_error",
        "code": "throttled",
        "detail": "Request was throttled. Expected available in 30 seconds.",
        "attr": None,
    }
    assert (await posthog.capture("signup")).status_code == 200
    await set_faults(posthog)
    assert (await posthog.http.get(FUNCTIONS, headers=posthog.key)).status_code == 200


async def test_each_area_fails_in_its_own_error_format(posthog: Driver) -> None:
    down = {"status": 503}
    await set_faults(posthog, api=down, oauth=down, ingestion=down, flags=down)
    api = await posthog.http.get("/api/projects/@current/", headers=posthog.key)
    oauth = await posthog.http.get("/.well-known/oauth-authorization-server")
    ingestion = await posthog.capture("signup")
    flags = await posthog.http.post("/flags/?v=2", json={})
    assert {api.status_code, oauth.status_code, ingestion.status_code, flags.status_code} == {503}
    assert api.json()["type"] == flags.json()["type"] == "server_error"
    assert oauth.json()["error"] == "temporarily_unavailable"
    assert ingestion.headers["Content-Type"].startswith("text/plain")
    assert (await posthog.state())["events"] == []


async def test_a_fault_can_be_limited_to_a_number_of_requests(posthog: Driver) -> None:
    await set_faults(posthog, api={"status": 500, "times": 2})
    statuses = [
        (await posthog.http.get(FUNCTIONS, headers=posthog.key)).status_code for _ in range(3)
    ]
    assert statuses == [500, 500, 200]


async def test_a_delayed_response_exceeds_the_timeout_of_a_client(posthog: Driver) -> None:
    await set_faults(posthog, api={"delay_ms": 60_000})
    with pytest.raises(httpx.ReadTimeout):
        await posthog.http.get(FUNCTIONS, headers=posthog.key, timeout=0.2)
    assert (await posthog.http.get("/")).status_code == 200


async def test_a_fault_can_drop_the_connection(posthog: Driver) -> None:
    await set_faults(posthog, api={"drop": True, "times": 1})
    with pytest.raises(httpx.TransportError):
        await posthog.http.get(FUNCTIONS, headers=posthog.key)
    assert (await posthog.http.get(FUNCTIONS, headers=posthog.key)).status_code == 200


async def test_a_fault_can_lose_the_response_after_the_request_was_processed(
    posthog: Driver,
) -> None:
    tokens = await posthog.tokens()
    await set_faults(posthog, oauth={"lose_answer": True, "times": 1})
    assert (await posthog.refresh(tokens["refresh_token"])).status_code == 502
    assert (await posthog.state())["oauth"]["refreshes"] == 1
    # Within the grace period the old refresh token still returns the new pair.
    again = await posthog.refresh(tokens["refresh_token"])
    assert again.status_code == 200
    used = await posthog.http.get(
        "/api/projects/@current/", headers=bearer(again.json()["access_token"])
    )
    assert used.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"nowhere": {}}),
        ("faults", {"api": {"status": 200}}),
        ("faults", {"api": {"delay": 1}}),
        ("flags", {}),
        ("plan", {}),
        ("webhooks", {"signing": "yes"}),
        ("watcher", {"state": 4}),
    ],
)
async def test_an_invalid_control_body_is_refused(posthog: Driver, path: str, body: Any) -> None:
    assert (await posthog.http.put(f"/_sandbox/{path}", json=body)).status_code == 400


async def test_reset_deletes_all_state(posthog: Driver, hook: Receiver) -> None:
    tokens = await posthog.tokens()
    await posthog.create(url=hook.url)
    await posthog.capture("signup")
    await posthog.http.put("/_sandbox/flags", json=[{"key": "a"}])
    await set_faults(posthog, flags={"status": 500})
    await posthog.advance(100)
    assert (await posthog.http.post("/_sandbox/reset")).status_code == 204
    state = await posthog.state()
    for name in ("events", "persons", "functions", "deliveries", "flags", "faults"):
        assert not state[name], name
    assert posthog.instance.clock.offset == 0
    assert (await posthog.refresh(tokens["refresh_token"])).status_code == 400


async def test_the_state_contains_no_tokens_and_no_header_values(posthog: Driver) -> None:
    tokens = await posthog.tokens()
    await posthog.create(url="http://127.0.0.1:1/{event.event}")
    text = (await posthog.http.get("/_sandbox/state")).text
    assert tokens["access_token"] not in text
    assert tokens["refresh_token"] not in text
    (function,) = json.loads(text)["functions"]
    assert function["header_names"] == ["Content-Type", "x-posthog-webhook-secret"]
    assert "inputs" not in function


@asynccontextmanager
async def command(*flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        "sandbox",
        *flags,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_command_serves_until_it_is_interrupted() -> None:
    port = str(free_port())
    async with command("--port", port, "--auto-consent", "--free-plan", "--json") as process:
        assert process.stdout is not None
        summary = json.loads(await process.stdout.readline())
        assert summary["url"] == f"http://127.0.0.1:{port}"
        assert summary["projectId"] == 4242
        async with httpx.AsyncClient(
            base_url=summary["url"], trust_env=False, timeout=PATIENCE_SECONDS
        ) as http:
            project = await http.get(
                "/api/projects/@current/", headers=bearer(summary["personalApiKey"])
            )
            assert project.json()["api_token"] == summary["projectApiKey"]
            assert (await http.get("/_sandbox/state")).json()["data_pipelines"] is False
            driver = Driver(Instance(Options()), http)
            code = await driver.code()
            tokens = (await driver.exchange(code)).json()
            refreshed = (await driver.refresh(tokens["refresh_token"])).json()
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        assert process.returncode == 0
        assert output == b""
        assert b"Traceback" not in errors
        for pair in (tokens, refreshed):
            assert pair["access_token"].encode() not in errors
            assert pair["refresh_token"].encode() not in errors
        assert code.encode() not in errors


async def test_an_interrupt_does_not_wait_for_a_delayed_response() -> None:
    port = str(free_port())
    async with command("--port", port, "--json") as process:
        assert process.stdout is not None
        url = json.loads(await process.stdout.readline())["url"]
        async with httpx.AsyncClient(
            base_url=url, trust_env=False, timeout=PATIENCE_SECONDS
        ) as http:
            slow = {"api": {"delay_ms": 600_000, "times": 1}}
            await http.put("/_sandbox/faults", json=slow)
            pending = asyncio.create_task(http.get("/api/projects/@current/", timeout=600))
            await eventually(lambda: _fault_was_used(http))
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
            assert process.returncode == 0
            await asyncio.gather(pending, return_exceptions=True)
            assert pending.done()


async def _fault_was_used(http: httpx.AsyncClient) -> bool:
    return (await http.get("/_sandbox/state")).json()["faults"] == {}


async def test_the_command_fails_when_its_port_is_in_use(posthog: Driver) -> None:
    port = str(posthog.instance.options.port)
    async with command("--port", port) as process:
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"is in use" in errors
        assert b"Traceback" not in errors


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
async def test_the_command_listens_on_a_host_name_or_on_all_addresses(host: str) -> None:
    async with command("--host", host, "--port", str(free_port()), "--json") as process:
        assert process.stdout is not None
        summary = json.loads(await process.stdout.readline())
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as http:
            assert (await http.get(f"{summary['url']}/_health")).status_code == 200


async def test_the_command_refuses_a_blank_host() -> None:
    async with command("--host", "", "--port", str(free_port())) as process:
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert b"blank" in errors


async def test_a_sandbox_that_cannot_listen_raises_the_reason() -> None:
    options = Options(host="nowhere.invalid", port=free_port())
    with pytest.raises(CannotStart, match="cannot listen on nowhere"):
        async with serving(options):
            pass


async def test_the_command_refuses_an_invalid_resolve_with_its_format() -> None:
    async with command("--resolve", "nonsense") as process:
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert b"HOST=ADDR:PORT" in errors


async def test_the_client_document_of_hogsend_is_available_without_a_network(
    posthog: Driver,
) -> None:
    assert await posthog.code(client_id=CLIENT_ID)
