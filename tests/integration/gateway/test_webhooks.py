"""Acceptance cases 12.7 at the gateway that need NATS or the credentials service.

Cases 109 to 116 are unit tests; 117 to 120, 123 and 124 are tests of ingest. Cases 121 and 122 are
omitted: they need journeys and the event mirror, which are not part of this product.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hogsend.contract import streams as stream_declarations
from hogsend.contract import subjects
from hogsend.contract.credentials import CREDENTIALS_PUT_DERIVED, DerivedPayload, PutDerived
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.integration.harness import (
    Credentials,
    Gateway,
    admin,
    connected,
    credentials_service,
    gateway_service,
)
from tests.servers import Servers
from tests.waiting import eventually

URL = "/v1/webhooks/posthog"
SECRET = "s3cret"
WITH_SECRET = {"posthog_webhook_secret": SECRET}


def body(uuid: str = "0190-1", **person: Any) -> dict[str, Any]:
    return {
        "event": {
            "uuid": uuid,
            "event": "signed_up",
            "distinct_id": "u_42",
            "properties": {"plan": "free"},
            "timestamp": "2026-06-01T12:00:00Z",
            "url": "https://eu.posthog.com/x",
        },
        "person": {"id": "p", "name": "n", "url": "u", "properties": person},
    }


@pytest.fixture
async def operator(servers: Servers, fresh_bus: None) -> AsyncIterator[Connection]:
    async with connected(servers, User.OPERATOR) as bus:
        await streams.reconcile(bus.js, User.INGEST)
        yield bus


@pytest.fixture
async def service(
    servers: Servers, database_url: str, operator: Connection
) -> AsyncIterator[Credentials]:
    async with credentials_service(servers, database_url) as running:
        yield running


async def queued_messages(operator: Connection) -> int:
    return int((await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages)


async def post(gateway: Gateway, secret: str | None = None, data: Any = None) -> Any:
    headers = {} if secret is None else {"x-posthog-webhook-secret": secret}
    return await gateway.http.post(URL, json=body() if data is None else data, headers=headers)


async def test_case_125_a_secret_from_the_provisioner_is_enforced_at_once(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    async with (
        gateway_service(servers, tmp_path) as gateway,
        connected(servers, User.PROVISIONER) as provisioner,
    ):
        assert (await post(gateway)).status_code == 200
        first = PutDerived(provider_id="posthog", payload=DerivedPayload(webhook_secret="one"))
        await provisioner.request(CREDENTIALS_PUT_DERIVED, first)
        await eventually(lambda: _is_refused(gateway, None))
        assert (await post(gateway, "one")).status_code == 200
        rotated = PutDerived(provider_id="posthog", payload=DerivedPayload(webhook_secret="two"))
        await provisioner.request(CREDENTIALS_PUT_DERIVED, rotated)
        await eventually(lambda: _is_refused(gateway, "one"))
        assert (await post(gateway, "two")).status_code == 200
        url = "/v1/admin/provider-credentials/posthog"
        assert (await gateway.http.delete(url, headers=admin())).status_code == 200
        # A route that required a secret does not become open when the secret is deleted.
        await eventually(lambda: _is_closed(gateway))
        assert (await post(gateway, "two")).status_code == 503
        third = PutDerived(provider_id="posthog", payload=DerivedPayload(webhook_secret="three"))
        await provisioner.request(CREDENTIALS_PUT_DERIVED, third)
        await eventually(lambda: _is_accepted(gateway, "three"))


async def test_the_route_still_requires_its_secret_after_the_database_was_emptied(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="one"))
    async with gateway_service(servers, tmp_path) as gateway:
        assert (await post(gateway, "one")).status_code == 200
        async with service.database.acquire() as connection:
            await connection.execute("TRUNCATE provider_credentials, provider_versions")
        await gateway.secret.refresh()
        assert (await post(gateway, "one")).status_code == 200
        assert (await post(gateway)).status_code == 401


async def test_an_undecryptable_secret_closes_the_route(
    servers: Servers, service: Credentials, operator: Connection, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    async with service.database.acquire() as connection:
        await connection.execute("UPDATE provider_credentials SET payload = 'AAAA'")
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as gateway:
        await eventually(lambda: _is_ready(gateway))
        response = await post(gateway, "w")
        ready = await gateway.http.get("/readyz")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert (ready.status_code, ready.json()["webhookSecret"]) == (200, "unreadable")
    assert await queued_messages(operator) == 0


async def test_a_restarted_gateway_requires_the_secret_before_it_receives_it_again(
    servers: Servers, database_url: str, operator: Connection, tmp_path: Path
) -> None:
    async with credentials_service(servers, database_url) as service:
        await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="generated"))
        async with gateway_service(servers, tmp_path):
            pass
    stored = (tmp_path / "webhook-secret.json").read_text()
    assert "generated" not in stored
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as gateway:
        assert (await post(gateway, "generated")).status_code == 200
        assert (await post(gateway, "other")).status_code == 401


async def test_a_hundred_concurrent_copies_of_a_webhook_are_one_message(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    async with gateway_service(servers, tmp_path, posthog=WITH_SECRET) as gateway:
        responses = await asyncio.gather(*(post(gateway, SECRET) for _ in range(100)))
    assert {response.status_code for response in responses} == {200}
    assert await queued_messages(operator) == 1
    message = await operator.js.get_msg(StreamName.WEBHOOKS, seq=1)
    assert message.subject == subjects.webhook("posthog")
    assert message.headers is not None
    assert message.headers["Nats-Msg-Id"].endswith(":0190-1")
    assert message.data is not None
    assert json.loads(message.data) == body()


async def test_webhooks_are_spooled_without_a_stream_and_then_published_in_order(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with (
        connected(servers, User.OPERATOR) as operator,
        gateway_service(servers, tmp_path, posthog=WITH_SECRET) as gateway,
    ):
        for number in range(20):
            assert (await post(gateway, SECRET, body(f"id-{number:02}"))).status_code == 200
        assert gateway.queue.waiting == 20
        assert (await gateway.http.get("/readyz")).json()["spooled"] == 20
        await streams.reconcile(operator.js, User.INGEST)
        await eventually(lambda: gateway.queue.waiting == 0)
        ids = []
        for sequence in range(1, 21):
            message = await operator.js.get_msg(StreamName.WEBHOOKS, seq=sequence)
            assert message.headers is not None
            ids.append(message.headers["Nats-Msg-Id"].partition(":")[2])
        assert ids == [f"id-{number:02}" for number in range(20)]
        await post(gateway, SECRET, body("direct"))
        assert await queued_messages(operator) == 21
        assert gateway.queue.waiting == 0


async def test_webhooks_are_spooled_while_the_stream_is_full(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    config = stream_declarations.STREAMS[StreamName.WEBHOOKS].config
    await operator.js.update_stream(config.evolve(max_bytes=2_000))
    async with gateway_service(servers, tmp_path, posthog=WITH_SECRET) as gateway:
        for number in range(20):
            assert (await post(gateway, SECRET, body(f"id-{number}"))).status_code == 200
        assert gateway.queue.waiting > 0
        components = (await gateway.http.get("/v1/health")).json()["components"]
        assert components["bus"]["status"] == components["redis"]["status"] == "down"
        await operator.js.update_stream(config)
        await eventually(lambda: gateway.queue.waiting == 0)
        await eventually(lambda: _bus_is_up(gateway))
    assert await queued_messages(operator) == 20


async def _bus_is_up(gateway: Gateway) -> bool:
    return bool(
        (await gateway.http.get("/v1/health")).json()["components"]["bus"]["status"] == "up"
    )


async def _is_refused(gateway: Gateway, secret: str | None) -> bool:
    return bool((await post(gateway, secret)).status_code == 401)


async def _is_ready(gateway: Gateway) -> bool:
    return (await gateway.http.get("/readyz")).is_success


async def _is_accepted(gateway: Gateway, secret: str | None = None) -> bool:
    return bool((await post(gateway, secret)).status_code == 200)


async def _is_closed(gateway: Gateway) -> bool:
    return bool((await post(gateway)).status_code == 503)
