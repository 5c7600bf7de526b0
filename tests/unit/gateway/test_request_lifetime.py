"""A request is freed when it is answered: until then, Granian keeps its connection open."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import INGEST_RECORD, Recorded
from tests.unit.gateway.fakes import INGEST_KEY, SECRET, FakeGateway, fake_gateway
from tests.waiting import eventually

WEBHOOK = "/v1/webhooks/posthog"
EVENTS = "/v1/events"
INGEST = {"authorization": f"Bearer {INGEST_KEY}"}
POSTHOG = {"x-posthog-webhook-secret": SECRET}


class Client:
    """Sends `body` and then nothing more. With None, the body never arrives."""

    def __init__(self, body: bytes | None) -> None:
        self._body = body
        self.statuses: list[int] = []

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])


@pytest.fixture
def _only_counted_references() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _scope(path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"x"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }


@pytest.mark.usefixtures("_only_counted_references")
@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        (WEBHOOK, POSTHOG, None, 408),
        (WEBHOOK, {"x-posthog-webhook-secret": "wrong"}, None, 401),
        (WEBHOOK, {**POSTHOG, "content-length": "1000000000"}, None, 413),
        (WEBHOOK, POSTHOG, b"{", 400),
        (WEBHOOK, POSTHOG, b"{}", 400),
        (WEBHOOK, POSTHOG, b'{"event":{"event":"e","distinct_id":"d"}}', 429),
        (EVENTS, INGEST, None, 408),
        (EVENTS, {"authorization": "Bearer wrong"}, None, 401),
        (EVENTS, INGEST, b"{", 400),
        ("/v1/unknown", {}, None, 404),
    ],
)
async def test_a_refused_request_is_freed(
    path: str, headers: dict[str, str], body: bytes | None, status: int
) -> None:
    async with fake_gateway(http_request_timeout_seconds=0.01) as gateway:
        gateway.bus.published.fail = lambda _message: Unavailable("the stream does not exist")
        await _check_released(gateway, path, headers, body, status)


@pytest.mark.usefixtures("_only_counted_references")
@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        (WEBHOOK, POSTHOG, b'{"event":{"event":"e","distinct_id":"d"}}', 200),
        (EVENTS, INGEST, b'{"event":"e","userId":"d"}', 202),
    ],
)
async def test_a_successful_request_is_freed(
    path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with fake_gateway() as gateway:
        gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="d"))
        await _check_released(gateway, path, headers, body, status)


async def _check_released(
    gateway: FakeGateway, path: str, headers: dict[str, str], body: bytes | None, status: int
) -> None:
    client = Client(body)
    reference = weakref.ref(client)
    await gateway.app(_scope(path, headers), client.receive, client.send)
    assert client.statuses == [status]
    del client
    await eventually(lambda: reference() is None)
