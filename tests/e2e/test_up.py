"""`hogsend up` starts a stack, restarts its processes when they are killed, and stops it."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import hogsend
from cli.stack import nats
from cli.stack.environment import SERVICE_SETTINGS
from hogsend.contract.credentials import CREDENTIALS_PUT_DERIVED, DerivedPayload, PutDerived
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.integration.deploy.alert_series import HEALTHY
from tests.ports import free_port, free_ports
from tests.running_stack import Up, environment, launch, processes_of, up
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually, more_than

DEPLOY = Path(__file__).parents[2] / "deploy" / "grafana"
GRANT: dict[str, Any] = {
    "accessToken": "pha_never_to_be_seen_again",
    "refreshToken": "phr_never_to_be_seen_again",
    "expiresAt": "2099-01-01T00:00:00Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read"],
}
NOT_YET_COUNTED = {
    "gateway": 'hogsend_webhooks_refused_total{reason="signature_wrong"}',
    "analytics": 'hogsend_person_reads_total{outcome="failed"}',
    "credentials": 'hogsend_token_refreshes_total{outcome="refused"}',
}
"""Series that are exported as 0 before anything is counted, so that the first count is an increase
for `increase()` in an alert."""
EMBEDDED = ("nats", "postgres")
PAGE_ROWS = 100
PAUSE_SECONDS = 0.02
"""Pause between two events of the load: short enough that events meet every fault, long enough that
restarted processes get CPU time."""


async def _served_metrics(first_port: int) -> list[str]:
    """Return the metrics of each service, from its own port."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        return [
            (await http.get(f"http://127.0.0.1:{first_port + number}/metrics")).text
            for number in range(len(SERVICE_SETTINGS))
        ]


def _metrics_in_use() -> set[str]:
    """Return the names of the metrics in the dashboard and the alerts."""
    files = ((DEPLOY / name).read_text() for name in ("alerts.yaml", "dashboard.json"))
    return {name for text in files for name in re.findall(r"\bhogsend_\w+", text)}


async def test_a_webhook_becomes_a_row_and_a_message_and_a_stop_leaves_no_process_or_secret(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    first_port = free_ports(len(SERVICE_SETTINGS))
    async with up(home, tmp_path, LOG_LEVEL="debug", METRICS_PORT=str(first_port)) as stack:
        url = "/v1/admin/provider-credentials/posthog"
        stored = await stack.http.put(url, json={"payload": GRANT}, headers=stack.admin)
        assert stored.status_code == 200
        async with hogsend.connect(stack.nats_url) as bus:
            events = bus.events("signed_up", durable="test")
            codes = await asyncio.gather(*(stack.post("0190-1") for _ in range(100)))
            assert set(codes) == {200}
            event = await asyncio.wait_for(anext(events), 60)
        assert (event.id, event.user_id, event.email) == ("0190-1", "u_42", "ada@example.com")
        await eventually(lambda: _is(stack.stored(), 1))
        health = (await stack.http.get("/v1/health")).json()
        assert health["status"] == "healthy"
        console = await stack.http.get(stack.summary["console"])
        assert (console.status_code, console.headers["content-type"]) == (
            200,
            "text/html; charset=utf-8",
        )
        key = stack.admin
        secrets = [file.read_text().strip() for file in (home / "secrets").iterdir()]
        secrets += [GRANT["accessToken"], GRANT["refreshToken"]]
        command_lines = " ".join(" ".join(each.cmdline()) for each in processes_of(home))
        metrics = (await stack.http.get("/metrics", headers=stack.admin)).text
        served = await _served_metrics(first_port)
        assert any("hogsend_ingest_announced_seconds_count 1.0" in text for text in served)
        assert not {name for name in _metrics_in_use() if not any(name in text for text in served)}
        by_service = dict(zip(SERVICE_SETTINGS, served, strict=True))
        for service, name in {(each, series.partition("{")[0]) for each, series in HEALTHY}:
            assert f"# HELP {name} " in by_service[service], (service, name)
        for service, series in NOT_YET_COUNTED.items():
            assert f"{series} 0.0\n" in by_service[service]
        await _store_minted_secret(stack)
        secret_digest = home / "spool" / "webhook-secret.json"
        await eventually(secret_digest.exists)
        stack.process.terminate()
        assert await asyncio.wait_for(stack.process.wait(), 60) == 0
    await eventually(lambda: not processes_of(home))
    logs = "".join(file.read_text(errors="replace") for file in (home / "logs").iterdir())
    assert logs
    for public in (logs, command_lines, metrics):
        assert not [secret for secret in secrets if secret in public]
    assert "ada@example.com" not in logs

    # On another machine no gateway has stored the digest of the generated secret.
    secret_digest.unlink()
    async with up(home, tmp_path, BETTER_AUTH_SECRET="not what sealed the rows") as stack:
        assert stack.admin == key
        assert await stack.stored() == 1
        await _check_that_a_changed_secret_is_reported_and_repaired(stack)


async def _store_minted_secret(stack: Up) -> None:
    password = (stack.home / "secrets" / f"nats-{User.PROVISIONER}").read_text().strip()
    port = httpx.URL(stack.nats_url).port or 0
    bus = Connection(User.PROVISIONER, nats.url(User.PROVISIONER, password, port))
    await bus.open()
    minted = DerivedPayload(webhook_secret="minted")
    await bus.request(CREDENTIALS_PUT_DERIVED, PutDerived(provider_id="posthog", payload=minted))
    await bus.close()


async def _check_that_a_changed_secret_is_reported_and_repaired(stack: Up) -> None:
    url = "/v1/admin/provider-credentials/posthog"
    assert stack.summary["credentialUnreadable"] is True
    assert stack.summary["webhookOpen"] is False
    assert "cannot be decrypted" in (await stack.http.get(url, headers=stack.admin)).text
    assert await stack.post("0190-2") == 503
    ready = await stack.http.get("/readyz")
    assert (ready.status_code, ready.json()["webhookSecret"]) == (200, "unreadable")
    assert not await stack.is_healthy()
    assert (await stack.http.delete(url, headers=stack.admin)).status_code == 200
    stored = await stack.http.put(url, json={"payload": GRANT}, headers=stack.admin)
    assert stored.status_code == 200
    await _store_minted_secret(stack)
    await eventually(stack.is_healthy, 60)
    assert (await stack.http.get(url, headers=stack.admin)).status_code == 200


async def test_up_uses_the_nats_and_postgresql_servers_in_its_settings(
    tmp_path: Path, servers: Servers
) -> None:
    port = free_port()
    nats_server = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("nats-server")), "-a", "127.0.0.1"),
        *("-p", str(port), "-js", "-sd", str(tmp_path / "js")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with (
            servers.fresh_database() as database,
            up(
                tmp_path / "home",
                tmp_path,
                NATS_URL=f"nats://127.0.0.1:{port}",
                DATABASE_URL=database,
            ) as stack,
        ):
            assert not {"nats", "postgres"} & {file.name for file in stack.home.iterdir()}
            assert stack.summary["subscriberEnvFile"] is None
            assert await stack.post("0190-1") == 200
            await eventually(lambda: _is(stack.stored(), 1))
    finally:
        nats_server.terminate()
        await nats_server.wait()


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """A stack for the tests that leave it healthy."""
    directory = tmp_path_factory.mktemp("up")
    async with up(directory / "home", directory) as running:
        yield running


async def test_every_accepted_event_is_stored_once_although_each_process_is_killed(
    stack: Up,
) -> None:
    accepted: set[str] = set()
    posting = asyncio.create_task(_post_until_cancelled(stack, accepted))
    for name in (*SERVICE_SETTINGS, *EMBEDDED):
        victim = stack.child(name)
        before = len(accepted)
        victim.kill()
        await eventually(partial(_is_replaced, stack, name, victim.pid), 60)
        await eventually(stack.is_healthy, 60)
        await eventually(more_than(before + 5, accepted), 60)
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    await eventually(lambda: _are_all_stored_once(stack, accepted), 90)


async def test_no_webhook_is_refused_while_the_gateway_is_restarted(stack: Up) -> None:
    codes: list[int] = []
    posting = [asyncio.create_task(_post_alone_until_cancelled(stack, codes)) for _ in range(4)]
    for _ in range(2):
        before = len(codes)
        victim = stack.child("gateway")
        victim.terminate()
        await eventually(partial(_is_replaced, stack, "gateway", victim.pid), 60)
        await eventually(more_than(before + 20, codes), 60)
    for task in posting:
        task.cancel()
    await asyncio.gather(*posting, return_exceptions=True)
    assert set(codes) == {200}


async def _post_alone_until_cancelled(stack: Up, codes: list[int]) -> None:
    """Post webhooks, each over a new connection."""
    body = {"event": {"event": "signed_up", "distinct_id": "u_42"}, "person": {}}
    for number in itertools.count():
        async with httpx.AsyncClient(base_url=stack.http.base_url, timeout=60) as http:
            body["event"]["uuid"] = f"0190-{id(http)}-{number}"
            codes.append(await _post_with_retries(http, body))
        await asyncio.sleep(PAUSE_SECONDS)


async def _post_with_retries(http: httpx.AsyncClient, body: dict[str, Any]) -> int:
    """Post a webhook, and repeat it, as PostHog does, when a connection ends without a response.

    A connection ends so when the gateway accepted it just before a stop and has not received a
    request on it.
    """
    for _ in range(3):
        try:
            return (await http.post("/v1/webhooks/posthog", json=body)).status_code
        except httpx.HTTPError:
            continue
    return 0


async def test_every_process_ends_when_hogsend_up_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with up(home, tmp_path) as stack:
        assert processes_of(home)
        stack.process.kill()
        await stack.process.wait()
    await eventually(lambda: not processes_of(home), 60)


@pytest.mark.parametrize("setting", ["GATEWAY_PORT", "NATS_PORT"])
async def test_up_fails_and_names_a_port_that_is_in_use(tmp_path: Path, setting: str) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    variables = environment(tmp_path / "home", **{setting: str(port)})
    process = await launch(variables, tmp_path)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    server.close()
    assert process.returncode == 1
    assert f"port {port}" in output.decode()
    assert setting in output.decode()
    assert not processes_of(tmp_path / "home")


async def test_a_second_stack_in_the_same_directory_does_not_start(stack: Up) -> None:
    process = await launch(environment(stack.home), stack.home.parent)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert "HOGSEND_HOME" in output.decode()


async def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = await launch(environment(home), tmp_path)
    await eventually(lambda: processes_of(home), 60)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    await eventually(lambda: not processes_of(home))


async def _post_until_cancelled(stack: Up, accepted: set[str]) -> None:
    number = 0
    while True:
        number += 1
        if await stack.post(f"id-{number}") == 200:
            accepted.add(f"id-{number}")
        await asyncio.sleep(PAUSE_SECONDS)


async def _stored_ids(stack: Up) -> set[str]:
    ids: set[str] = set()
    # The offset counts rows that were read, not distinct ids: new events shift the pages, and with
    # a count of ids a page without a new id would be requested again forever.
    for offset in itertools.count(0, PAGE_ROWS):
        page = await stack.http.get(
            "/v1/admin/events",
            params={"limit": PAGE_ROWS, "offset": offset},
            headers=stack.admin,
        )
        events = page.json()["events"]
        if not events:
            break
        ids |= {event["id"] for event in events}
    return ids


def _is_replaced(stack: Up, name: str, old_pid: int) -> bool:
    try:
        return stack.child(name).pid != old_pid
    except (LookupError, psutil.Error):
        return False


async def _is(value: Any, expected: int) -> bool:
    return bool(await value == expected)


async def _are_all_stored_once(stack: Up, ids: set[str]) -> bool:
    # An event whose post got no response may be stored as well, so a count alone proves nothing.
    stored = await _stored_ids(stack)
    return ids <= stored and len(stored) == await stack.stored()


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("NATS_URL", "nats://u:hunter2@127.0.0.1:{port}"),
        ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:{port}/db"),
    ],
)
async def test_up_fails_and_names_a_server_that_does_not_respond(
    tmp_path: Path, setting: str, url: str
) -> None:
    port = free_port()
    process = await launch(
        environment(tmp_path / "home", **{setting: url.format(port=port)}), tmp_path
    )
    output, progress = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert setting in output.decode()
    assert f"127.0.0.1:{port}" in output.decode()
    assert "hunter2" not in output.decode() + progress.decode()
    server = {"NATS_URL": "NATS", "DATABASE_URL": "PostgreSQL"}[setting]
    assert f"connecting to {server}" in progress.decode()
    assert f"starting {server}" not in progress.decode()
    await eventually(lambda: not processes_of(tmp_path / "home"))
