"""Acceptance cases 12.7 at the webhook route: secrets, bodies and responses."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from docs.generate import ROOT
from hogsend.contract import subjects
from hogsend.contract.credentials import CREDENTIALS_WEBHOOK_SECRET, WebhookSecretReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import MESSAGE_ID, message_id
from hogsend.contract.webhooks import PostHogWebhook
from services.gateway.webhooks.refusals import REFUSED
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.spool.spool import Spool
from services.ingest.sources.posthog import decode
from tests.unit.gateway.fakes import SECRET, FakeConnection, FakeGateway, bearer, fake_gateway
from tests.waiting import eventually

URL = "/v1/webhooks/posthog"
ABSENT = WebhookSecretReply(version=1, state="absent")
UNREADABLE = WebhookSecretReply(version=1, state="unreadable")


def minted(secret: str) -> WebhookSecretReply:
    return WebhookSecretReply(
        version=1, state="present", sha256=sha256(secret.encode()).hexdigest()
    )


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


async def post(
    gateway: FakeGateway, secret: str | None = SECRET, data: Any = None
) -> httpx.Response:
    headers = {} if secret is None else {"x-posthog-webhook-secret": secret}
    return await gateway.http.post(URL, json=body() if data is None else data, headers=headers)


async def test_case_109_the_right_secret(gateway: FakeGateway) -> None:
    response = await post(gateway)
    bearing = await gateway.http.post(URL, json=body("0190-2"), headers=bearer(SECRET))
    bare = await gateway.http.post(URL, json=body("0190-3"), headers={"Authorization": SECRET})
    assert (response.status_code, response.json()) == (
        200,
        {"ok": True, "event": "signed_up", "userId": "u_42"},
    )
    assert (bearing.status_code, bare.status_code) == (200, 200)
    first, *_ = gateway.bus.published.messages
    assert first.subject == subjects.webhook("posthog")
    assert json.loads(first.body) == body()
    ids = [id.partition(":")[2] for id in gateway.bus.published.ids]
    assert ids == ["0190-1", "0190-2", "0190-3"]


@pytest.mark.parametrize("url", [URL, f"{URL}/", "/v1//webhooks/posthog"])
async def test_a_delivery_is_handled_alike_for_every_spelling_of_the_path(
    gateway: FakeGateway, url: str
) -> None:
    headers = {"x-posthog-webhook-secret": SECRET}
    accepted = await gateway.http.post(url, json=body(), headers=headers)
    assert (accepted.status_code, accepted.json()["userId"]) == (200, "u_42")
    assert accepted.headers["content-type"] == "application/json"
    assert accepted.headers["x-request-id"]
    refused = await gateway.http.post(url, content=b"{", headers=headers)
    assert (refused.status_code, refused.json()["details"]) == (400, "Malformed JSON")
    assert (await gateway.http.post(url, json=body())).status_code == 401
    assert len(gateway.bus.published.ids) == 1


async def test_the_decoded_webhook_is_freed_before_the_delivery_is_queued(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []

    async def accept(_queued: object) -> None:
        decoded.extend(item for item in gc.get_objects() if isinstance(item, PostHogWebhook))

    monkeypatch.setattr(gateway.queue, "accept", accept)
    gc.collect()
    assert (await post(gateway)).json()["event"] == "signed_up"
    assert decoded == []


async def test_a_delivery_whose_client_disconnected_is_not_queued(gateway: FakeGateway) -> None:
    messages = iter(
        [
            {"type": "http.request", "body": b'{"event"', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    responses: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        responses.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": URL,
        "query_string": b"",
        "client": None,
        "headers": [(b"host", b"x"), (b"x-posthog-webhook-secret", SECRET.encode())],
    }
    await gateway.app(scope, receive, send)
    assert responses[0]["status"] == 400
    assert gateway.bus.published.ids == []


@pytest.mark.parametrize(
    ("headers", "pieces", "receives"),
    [
        ({"content-length": "{length}"}, [1.0], 1),
        ({"content-length": "{length}"}, [0.5, 1.0], 2),
        ({}, [1.0], 2),
        # Chunks take precedence over the length (RFC 9112, 6.3).
        ({"content-length": "{half}", "transfer-encoding": "chunked"}, [0.5, 1.0], 3),
        ({"content-length": "{half}", "content-encoding": "identity"}, [0.5, 1.0], 3),
    ],
)
async def test_a_body_is_read_with_as_few_receives_as_its_headers_allow(
    gateway: FakeGateway, headers: dict[str, str], pieces: list[float], receives: int
) -> None:
    data = json.dumps(body()).encode()
    sizes = {"length": len(data), "half": len(data) // 2}
    read, responses = [0], []

    async def receive() -> Any:
        # As Granian does it: the end of a body is a message of its own.
        count, start = len(read) - 1, read[-1]
        read.append(int(len(data) * pieces[count]) if count < len(pieces) else start)
        more = count < len(pieces)
        return {"type": "http.request", "body": data[start : read[-1]], "more_body": more}

    async def send(message: Any) -> None:
        responses.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": URL,
        "query_string": b"",
        "client": None,
        "headers": [
            (b"host", b"x"),
            (b"x-posthog-webhook-secret", SECRET.encode()),
            *((name.encode(), value.format(**sizes).encode()) for name, value in headers.items()),
        ],
    }
    await gateway.app(scope, receive, send)
    assert responses[0]["status"] == 200
    (message,) = gateway.bus.published.messages
    assert message.body == data
    assert len(read) - 1 == receives


@pytest.mark.parametrize("secret", ["wrong", "", None, "S3CRET", "s3cret ", "s3crét"])
async def test_case_110_a_wrong_secret(gateway: FakeGateway, secret: str | None) -> None:
    presented = [] if secret is None else [(b"x-posthog-webhook-secret", secret.encode())]
    response = await gateway.http.post(URL, content=b"not even json", headers=presented)
    both = {**bearer(SECRET), "x-posthog-webhook-secret": ""}
    overruled = await gateway.http.post(URL, json=body(), headers=both)
    assert (response.status_code, response.json()) == (401, {"error": "Invalid webhook secret"})
    assert overruled.status_code == 401
    assert gateway.bus.published.messages == []


async def test_case_111_no_secret_anywhere_is_open() -> None:
    async with fake_gateway(secret=None, minted=ABSENT) as gateway:
        assert (await post(gateway, None)).status_code == 200
        assert (await post(gateway, "any")).status_code == 200


async def test_a_deployment_without_a_secret_is_503_with_the_remedy_and_ready() -> None:
    async with fake_gateway(secret=None, minted=ABSENT, webhook_open=False) as gateway:
        refused = await post(gateway, None)
        ready = await gateway.http.get("/readyz")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert "WEBHOOK_OPEN" in refused.json()["error"]
    assert (ready.status_code, ready.json()["webhookSecret"]) == (200, "missing")


async def test_case_112_a_generated_secret() -> None:
    async with fake_gateway(secret=None, minted=minted("minted")) as gateway:
        responses = [await post(gateway, secret) for secret in ("minted", "other", None)]
    assert [response.status_code for response in responses] == [200, 401, 401]


async def test_a_webhook_with_a_new_secret_is_accepted_although_the_gateway_missed_the_change() -> (
    None
):
    async with fake_gateway(secret=None, minted=minted("earlier")) as gateway:
        gateway.bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, minted("minted"))
        assert (await post(gateway, "minted")).status_code == 200
        assert (await post(gateway, "earlier")).status_code == 401


async def test_case_113_the_environment_wins() -> None:
    async with fake_gateway(minted=minted("minted")) as gateway:
        assert (await post(gateway, SECRET)).status_code == 200
        assert (await post(gateway, "minted")).status_code == 401
    assert gateway.bus.sent == []


async def test_case_114_another_shape(gateway: FakeGateway) -> None:
    response = await post(gateway, data={"not": "posthog"})
    assert response.status_code == 400
    assert response.json() == {
        "error": "Invalid payload",
        "details": {"formErrors": [], "fieldErrors": {"event": ["Required"]}},
    }
    assert gateway.bus.published.messages == []


async def test_case_115_not_json(gateway: FakeGateway) -> None:
    headers = {"x-posthog-webhook-secret": SECRET}
    response = await gateway.http.post(URL, content=b"zzz", headers=headers)
    assert response.status_code == 400
    assert response.json() == {"error": "Invalid payload", "details": "Malformed JSON"}


async def test_case_116_an_unknown_source(gateway: FakeGateway) -> None:
    response = await gateway.http.post("/v1/webhooks/segment", json=body())
    assert (response.status_code, response.json()) == (404, {"error": "Unknown webhook source"})


@pytest.mark.parametrize("reply", [UNREADABLE, Unavailable("credentials do not run")])
async def test_webhooks_are_503_while_the_secret_is_unknown(reply: Any) -> None:
    counter = REFUSED.labels("unknown")._value
    before = counter.get()
    async with fake_gateway(secret=None, minted=reply) as gateway:
        responses = [await post(gateway, secret) for secret in (None, "w")]
    assert counter.get() == before + 2
    for response in responses:
        assert response.status_code == 503
        assert response.json() == {"error": "the webhook secret is not known yet"}
        assert response.headers["retry-after"] == "5"
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(gateway: FakeGateway, chunked: bool) -> None:
    data = json.dumps(body(filler="x" * 4_200_000)).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 65_536):
            yield data[start : start + 65_536]

    headers = {"x-posthog-webhook-secret": SECRET}
    response = await gateway.http.post(URL, content=pieces() if chunked else data, headers=headers)
    assert response.status_code == 413
    assert "error" in response.json()
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize("value", ["{}", "[[[]]]"])
async def test_a_body_that_takes_too_much_memory_when_decoded_is_413(
    gateway: FakeGateway, value: str
) -> None:
    values = ",".join([value] * (4_000_000 // (len(value) + 1)))
    data = f'{{"event":{{"event":"e","distinct_id":"u","properties":{{"x":[{values}]}}}}}}'
    response = await gateway.http.post(
        URL, content=data, headers={"x-posthog-webhook-secret": SECRET}
    )
    assert response.status_code == 413
    assert "memory" in response.json()["error"]
    assert gateway.bus.published.messages == []


async def test_an_event_of_a_megabyte_with_its_person_is_accepted(gateway: FakeGateway) -> None:
    response = await post(gateway, data=body(filler="x" * 1_600_000))
    assert response.status_code == 200


async def test_a_body_over_the_payload_limit_of_nats_is_413_with_the_limit() -> None:
    async with fake_gateway(webhook_max_bytes=2 * 1024 * 1024) as gateway:
        gateway.bus.payload_limit = 1024 * 1024
        limit = gateway.bus.payload_limit - 4096
        capacity = limit - len(json.dumps(body(filler=""), separators=(",", ":")))
        largest = await post(gateway, data=body(filler="x" * capacity))
        larger = await post(gateway, data=body(filler="x" * (capacity + 1)))
    assert (largest.status_code, larger.status_code) == (200, 413)
    assert str(limit) in larger.json()["error"]
    assert "max_payload" in larger.json()["error"]


async def test_a_large_body_is_spooled_while_the_limit_of_nats_is_unknown(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 16 * 1024 * 1024)
    async with fake_gateway(spool=spool) as gateway:
        gateway.bus.payload_limit = None
        gateway.bus.published.fail = lambda _message: Unavailable("away")
        response = await post(gateway, data=body(filler="x" * 2_000_000))
        assert response.status_code == 200
        assert spool.count == 1
    await spool.close()


async def test_a_payload_limit_of_nats_below_the_setting_is_logged_once() -> None:
    bus = FakeConnection()
    bus.payload_limit = 1024 * 1024
    with structlog.testing.capture_logs() as logs:
        watch = asyncio.create_task(SizeLimit(bus, 4 * 1024 * 1024).watch())
        await eventually(lambda: bool(logs))
        watch.cancel()
    assert [line["limit"] for line in logs] == [1024 * 1024 - 4096]


@pytest.mark.parametrize("sent", [[], [b'{"event":']])
async def test_a_body_that_does_not_arrive_in_time_is_a_408(sent: list[bytes]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in sent:
            yield piece
        await asyncio.Event().wait()

    headers = {"x-posthog-webhook-secret": SECRET}
    async with fake_gateway(http_request_timeout_seconds=1e-6) as gateway:
        response = await gateway.http.post(URL, content=pieces(), headers=headers)
    assert (response.status_code, response.json()) == (
        408,
        {"error": "The request body did not arrive in time"},
    )
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize(
    ("uuid", "stored_id"),
    [
        ("0190-1", "0190-1"),
        ("é", "sha256:4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"),
    ],
)
async def test_ingest_of_0_1_0_stores_an_event_under_the_same_id(
    gateway: FakeGateway, uuid: str, stored_id: str
) -> None:
    await post(gateway, data=body(uuid))
    (queued,) = gateway.bus.published.messages
    # Ingest reads the id from the headers first.
    assert message_id(queued.headers) == stored_id
    assert decode(queued.body, queued.headers, datetime.now(UTC)).ref.id == stored_id


async def test_a_webhook_that_cannot_be_stored_is_429(gateway: FakeGateway) -> None:
    gateway.bus.published.fail = lambda _message: Unavailable("the stream does not exist")
    response = await post(gateway)
    # PostHog retries a 429 for minutes, a 503 for seconds.
    assert response.status_code == 429
    assert response.headers["retry-after"] == "5"


async def test_a_spooled_webhook_is_answered_200_and_counted_in_readyz(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000_000)
    async with fake_gateway(spool=spool) as gateway:
        gateway.bus.published.fail = lambda _message: Unavailable("the stream does not exist")
        assert (await post(gateway)).status_code == 200
        ready = (await gateway.http.get("/readyz")).json()
    (waiting,) = await spool.head(10)
    assert waiting.webhook.headers[MESSAGE_ID].endswith(":0190-1")
    assert (ready["ready"], ready["spooled"]) == (True, 1)
    await spool.close()


DOCUMENTED = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"][URL]["post"]
EVENT_FIELDS = DOCUMENTED["requestBody"]["content"]["application/json"]["schema"]["properties"][
    "event"
]["properties"]
VALUES: dict[str, Any] = {
    "string": "2026-06-01T12:00:00Z",
    "object": {"a": 1},
    "null": None,
    "number": 1,
    "boolean": True,
    "array": [1],
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("field", EVENT_FIELDS)
async def test_the_route_accepts_exactly_the_field_types_that_the_document_lists(
    gateway: FakeGateway, field: str, kind: str
) -> None:
    types = EVENT_FIELDS[field]["type"]
    documented = kind in (types if isinstance(types, list) else [types])
    data = body()
    data["event"][field] = VALUES[kind]
    assert ((await post(gateway, data=data)).status_code == 200) is documented
