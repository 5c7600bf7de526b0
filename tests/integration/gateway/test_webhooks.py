"""Acceptance cases 12.7 at the gateway: secrets, bodies, and durability before the 200.

Cases 117 to 120, 123 and 124 are about ingest and live beside it. Left out: 121 and 122 need
journeys and the event mirror, which are not part of this product.
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
    gateway,
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


async def queued(operator: Connection) -> int:
    return int((await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages)


async def post(front: Gateway, secret: str | None = None, data: Any = None) -> Any:
    headers = {} if secret is None else {"x-posthog-webhook-secret": secret}
    return await front.http.post(URL, json=body() if data is None else data, headers=headers)


async def test_case_109_the_right_secret(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answer = await post(front, SECRET)
        assert (answer.status_code, answer.json()) == (
            200,
            {"ok": True, "event": "signed_up", "userId": "u_42"},
        )
        bearer = await front.http.post(
            URL, json=body("0190-2"), headers={"Authorization": f"Bearer {SECRET}"}
        )
        bare = await front.http.post(URL, json=body("0190-3"), headers={"Authorization": SECRET})
        assert (bearer.status_code, bare.status_code) == (200, 200)
    assert await queued(operator) == 3


@pytest.mark.parametrize("secret", ["wrong", "", None, "S3CRET", "s3cret ", "s3crét"])
async def test_case_110_a_wrong_secret(
    servers: Servers, operator: Connection, tmp_path: Path, secret: str | None
) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        presented = {} if secret is None else {"x-posthog-webhook-secret": secret.encode()}
        answer = await front.http.post(URL, content=b"not even json", headers=presented)  # type: ignore[arg-type]
        both = {**admin(SECRET), "x-posthog-webhook-secret": ""}
        overruled = await front.http.post(URL, json=body(), headers=both)
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid webhook secret"})
    assert overruled.status_code == 401
    assert await queued(operator) == 0


async def test_case_111_no_secret_anywhere_is_open(
    servers: Servers, service: Credentials, operator: Connection, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path) as front:
        assert (await post(front)).status_code == 200
    assert await queued(operator) == 1


async def test_case_112_a_minted_secret(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
    async with gateway(servers, tmp_path) as front:
        assert (await post(front, "minted")).status_code == 200
        assert (await post(front, "other")).status_code == 401
        assert (await post(front)).status_code == 401


async def test_case_113_the_environment_wins(
    servers: Servers, service: Credentials, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        assert (await post(front, SECRET)).status_code == 200
        assert (await post(front, "minted")).status_code == 401


async def test_case_114_another_shape(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answer = await post(front, SECRET, {"not": "posthog"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "Invalid payload"
    assert answer.json()["details"]["fieldErrors"]["event"]
    assert await queued(operator) == 0


async def test_case_115_not_json(servers: Servers, operator: Connection, tmp_path: Path) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answer = await front.http.post(
            URL, content=b"zzz", headers={"x-posthog-webhook-secret": SECRET}
        )
    assert answer.status_code == 400
    assert answer.json() == {"error": "Invalid payload", "details": "Malformed JSON"}


async def test_case_116_an_unknown_source(servers: Servers, tmp_path: Path) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answer = await front.http.post("/v1/webhooks/segment", json=body())
    assert (answer.status_code, answer.json()) == (404, {"error": "Unknown webhook source"})


async def test_case_125_a_secret_minted_elsewhere_is_enforced_at_once(
    servers: Servers, service: Credentials, operator: Connection, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path) as front:
        assert (await post(front)).status_code == 200
        minted = PutDerived(provider_id="posthog", payload=DerivedPayload(webhook_secret="one"))
        await operator.request(CREDENTIALS_PUT_DERIVED, minted)
        await eventually(lambda: _refused(front, None))
        assert (await post(front, "one")).status_code == 200
        rotated = PutDerived(provider_id="posthog", payload=DerivedPayload(webhook_secret="two"))
        await operator.request(CREDENTIALS_PUT_DERIVED, rotated)
        await eventually(lambda: _refused(front, "one"))
        assert (await post(front, "two")).status_code == 200
        url = "/v1/admin/provider-credentials/posthog"
        assert (await front.http.delete(url, headers=admin())).status_code == 200
        await eventually(lambda: _accepted(front))


async def test_an_unreadable_secret_closes_the_route(
    servers: Servers, service: Credentials, operator: Connection, tmp_path: Path
) -> None:
    await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="w"))
    async with service.database.acquire() as connection:
        await connection.execute("UPDATE provider_credentials SET payload = 'AAAA'")
    async with gateway(servers, tmp_path, wait_for_secret=False) as front:
        answer = await post(front, "w")
        ready = await front.http.get("/readyz")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert ready.status_code == 503
    assert await queued(operator) == 0


async def test_a_secret_nobody_can_tell_closes_the_route(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, wait_for_secret=False) as front:
        assert (await post(front)).status_code == 503
    assert await queued(operator) == 0


async def test_a_restarted_gateway_remembers_whom_to_let_in(
    servers: Servers, database_url: str, operator: Connection, tmp_path: Path
) -> None:
    async with credentials_service(servers, database_url) as service:
        await service.credentials.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
        async with gateway(servers, tmp_path):
            pass
    remembered = (tmp_path / "webhook-secret.json").read_text()
    assert "minted" not in remembered
    async with gateway(servers, tmp_path, wait_for_secret=False) as front:
        assert (await post(front, "minted")).status_code == 200
        assert (await post(front, "other")).status_code == 401


async def test_an_open_route_is_not_remembered(
    servers: Servers, database_url: str, operator: Connection, tmp_path: Path
) -> None:
    async with credentials_service(servers, database_url), gateway(servers, tmp_path) as front:
        assert (await post(front)).status_code == 200
    async with gateway(servers, tmp_path, wait_for_secret=False) as front:
        assert (await post(front)).status_code == 503


async def test_a_hundred_copies_at_once_are_one_message(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answers = await asyncio.gather(*(post(front, SECRET) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert await queued(operator) == 1
    message = await operator.js.get_msg(StreamName.WEBHOOKS, seq=1)
    assert message.subject == subjects.webhook("posthog")
    assert message.headers is not None
    assert message.headers["Nats-Msg-Id"] == "0190-1"
    assert message.data is not None
    assert json.loads(message.data) == body()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(
    servers: Servers, operator: Connection, tmp_path: Path, chunked: bool
) -> None:
    data = json.dumps(body(filler="x" * 2_000_000)).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 65_536):
            yield data[start : start + 65_536]

    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        answer = await front.http.post(
            URL,
            content=pieces() if chunked else data,
            headers={"x-posthog-webhook-secret": SECRET},
        )
    assert answer.status_code == 413
    assert "error" in answer.json()
    assert await queued(operator) == 0


async def test_without_a_stream_webhooks_wait_on_disk_and_arrive_in_order(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with (
        connected(servers, User.OPERATOR) as operator,
        gateway(servers, tmp_path, posthog=WITH_SECRET) as front,
    ):
        for number in range(20):
            assert (await post(front, SECRET, body(f"id-{number:02}"))).status_code == 200
        assert front.queue.waiting == 20
        assert (await front.http.get("/readyz")).json()["spooled"] == 20
        await streams.reconcile(operator.js, User.INGEST)
        await eventually(lambda: front.queue.waiting == 0)
        ids = []
        for sequence in range(1, 21):
            message = await operator.js.get_msg(StreamName.WEBHOOKS, seq=sequence)
            assert message.headers is not None
            ids.append(message.headers["Nats-Msg-Id"])
        assert ids == [f"id-{number:02}" for number in range(20)]
        await post(front, SECRET, body("direct"))
        assert await queued(operator) == 21
        assert front.queue.waiting == 0


async def test_a_stream_that_is_full_means_the_spool(
    servers: Servers, operator: Connection, tmp_path: Path
) -> None:
    config = stream_declarations.STREAMS[StreamName.WEBHOOKS].config
    await operator.js.update_stream(config.evolve(max_bytes=2_000))
    async with gateway(servers, tmp_path, posthog=WITH_SECRET) as front:
        for number in range(20):
            assert (await post(front, SECRET, body(f"id-{number}"))).status_code == 200
        assert front.queue.waiting > 0
        components = (await front.http.get("/v1/health")).json()["components"]
        assert components["bus"]["status"] == components["redis"]["status"] == "down"
        await operator.js.update_stream(config)
        await eventually(lambda: front.queue.waiting == 0)
        await eventually(lambda: _bus_is_up(front))
    assert await queued(operator) == 20


@pytest.mark.parametrize("spool_max_bytes", [0, 1_500])
async def test_a_full_or_missing_spool_refuses_with_429_and_forgets_nothing(
    servers: Servers, fresh_bus: None, tmp_path: Path, spool_max_bytes: int
) -> None:
    async with (
        connected(servers, User.OPERATOR) as operator,
        gateway(
            servers,
            tmp_path,
            posthog=WITH_SECRET,
            settings={"spool_max_bytes": spool_max_bytes},
        ) as front,
    ):
        answers = [await post(front, SECRET, body(f"id-{number}")) for number in range(6)]
        accepted = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(accepted) + len(refused) == 6
        assert refused
        assert bool(accepted) == bool(spool_max_bytes)
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        await streams.reconcile(operator.js, User.INGEST)
        await eventually(lambda: front.queue.waiting == 0)
        assert await queued(operator) == len(accepted)


async def _bus_is_up(front: Gateway) -> bool:
    return bool((await front.http.get("/v1/health")).json()["components"]["bus"]["status"] == "up")


async def _refused(front: Gateway, secret: str | None) -> bool:
    return bool((await post(front, secret)).status_code == 401)


async def _accepted(front: Gateway) -> bool:
    return bool((await post(front)).status_code == 200)
