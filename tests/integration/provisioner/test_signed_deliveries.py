"""Signed deliveries end to end: provisioning, delivery, verification, and rotation under load.

The sandbox delivers over HTTP to a gateway that accepts signed webhooks only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.signing import KEY_ID_HEADER
from sandbox import app as sandbox
from sandbox.instance import Instance
from sandbox.options import Options, Resolve
from tests.integration.provisioner.driver import Driver, start_driver
from tests.ports import free_port
from tests.posthog_recorder import Recorder, serving
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

HOST = "hogsend.test"
WEBHOOK = "/v1/webhooks/posthog"


class Recording:
    """Forwards requests to the gateway, and records headers and body of each webhook."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.deliveries: list[tuple[dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""

        async def receive_and_record() -> Any:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        await self._app(scope, receive_and_record, send)
        if scope["type"] == "http" and scope["path"] == WEBHOOK:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.deliveries.append((headers, body))


class Loop:
    def __init__(self, posthog: Instance, driver: Driver, received: Recording) -> None:
        self.posthog, self.driver, self.received = posthog, driver, received

    async def capture(self, event: str) -> None:
        async with httpx.AsyncClient(
            base_url=self.posthog.options.url, timeout=PATIENCE_SECONDS
        ) as http:
            body = {
                "api_key": self.posthog.options.project_key,
                "event": event,
                "distinct_id": "u_1",
                "properties": {"$is_identified": True},
            }
            assert (await http.post("/i/v0/e/", json=body)).status_code == 200

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Capture events continuously before, during and after the block. All must be accepted."""
        before = len(self.statuses())
        stop = asyncio.Event()

        async def keep_capturing() -> int:
            count = 0
            while not stop.is_set():
                await self.capture(f"event_{count}")
                count += 1
            return count

        capturing = asyncio.create_task(keep_capturing())
        await eventually(lambda: len(self.statuses()) > before + 2)
        yield
        after_block = len(self.statuses())
        await eventually(lambda: len(self.statuses()) > after_block + 3)
        stop.set()
        captured = await capturing
        await eventually(lambda: len(self.statuses()) == before + captured)
        assert set(self.statuses()) == {200}

    async def repeat(self, headers: dict[str, str], body: bytes) -> int:
        """Send a recorded delivery again, as an attacker could."""
        response = await self.driver.gateway.http.post(WEBHOOK, content=body, headers=headers)
        return response.status_code

    def statuses(self) -> list[int | None]:
        """Return the status of every delivery attempt."""
        return [
            attempt.status
            for delivery in self.posthog.deliveries.all
            for attempt in delivery.attempts
        ]


@pytest.fixture
async def loop(
    servers: Servers, database_url: str, fresh_bus: None, tmp_path: Path
) -> AsyncIterator[Loop]:
    async with _loop(servers, database_url, tmp_path) as loop:
        yield loop


@asynccontextmanager
async def _loop(servers: Servers, database_url: str, tmp_path: Path) -> AsyncIterator[Loop]:
    port = free_port()
    options = Options(port=free_port(), resolve=(Resolve(HOST, "127.0.0.1", port),))
    async with (
        sandbox.serving(options) as posthog,
        start_driver(
            servers,
            database_url,
            cast("Recorder", posthog.options),
            tmp_path,
            public_url=f"http://{HOST}",
            personal_key=posthog.options.personal_key,
            connected=False,
            gateway_settings={"webhook_signatures": "required"},
        ) as driver,
    ):
        received = Recording(driver.gateway.app)
        async with serving(received, port):
            yield Loop(posthog, driver, received)


async def test_deliveries_are_signed_and_verified_also_while_the_key_is_rotated(loop: Loop) -> None:
    connected = await loop.driver.provision()
    assert connected.json()["signed"] is True, connected.text
    await loop.capture("signed_up")
    await eventually(lambda: loop.statuses() == [200])
    headers, body = loop.received.deliveries[0]
    assert await loop.repeat(headers, body) == 200
    assert await loop.repeat(headers, body.replace(b"signed_up", b"refunded!")) == 401
    assert await loop.repeat({**headers, "webhook-id": "msg_other"}, body) == 401
    without = {name: value for name, value in headers.items() if not name.startswith("webhook-")}
    assert await loop.repeat(without, body) == 401

    async with loop.under_load():
        changed = await loop.driver.provision("?rotateSigningKey=true")
        result = changed.json()
        assert (result["action"], result["signed"]) == ("updated", True), changed.text
    keys = {headers[KEY_ID_HEADER] for headers, _ in loop.received.deliveries}
    assert len(keys) == 2
    # The previous key stays valid for a while, since PostHog may repeat a signed delivery.
    assert await loop.repeat(headers, body) == 200
    report = await loop.driver.diagnose()
    assert report["signatures"]["state"] == "signed"


async def test_no_delivery_is_refused_while_the_generated_webhook_secret_is_rotated(
    loop: Loop,
) -> None:
    await loop.driver.provision()
    for _ in range(2):
        async with loop.under_load():
            changed = await loop.driver.provision("?rotateWebhookSecret=true")
            assert (changed.status_code, changed.json()["action"]) == (200, "updated"), changed.text
    sent: list[str] = []
    for headers, _body in loop.received.deliveries:
        if headers[SECRET_HEADER] not in sent:
            sent.append(headers[SECRET_HEADER])
    assert len(sent) == 3
    first, second, third = sent
    headers, body = loop.received.deliveries[-1]
    assert headers[SECRET_HEADER] == third

    async def status_with(secret: str) -> int:
        return await loop.repeat({**headers, SECRET_HEADER: secret}, body)

    # Besides the current secret, only the previous one is accepted.
    assert [await status_with(secret) for secret in (first, second, third)] == [401, 200, 200]


async def test_provisioning_is_refused_when_posthog_cannot_sign_and_signatures_are_required(
    loop: Loop,
) -> None:
    loop.posthog.functions.signing = False
    refused = await loop.driver.provision()
    assert refused.status_code == 409
    assert refused.json()["error"] == "webhook_signatures_unsupported"
    assert "WEBHOOK_SIGNATURES" in refused.json()["remediation"]
    report = await loop.driver.diagnose()
    signatures = report["signatures"]
    assert (signatures["state"], signatures["required"]) == ("refused", True)
    assert signatures["remediation"]
