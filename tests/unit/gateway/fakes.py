"""A gateway without a server, a bus or a disk: its app, asked in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import msgspec

from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings import PostHogSettings, PublicUrlSettings
from hogsend.transport.connection import Connection
from hogsend.transport.correlation import correlation_id
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.gateway.app import build, with_middleware
from services.gateway.settings import GatewaySettings
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.spool import Spool
from services.gateway.webhooks.webhook_queue import WebhookQueue

ADMIN_KEY = "k-admin"
READ_KEY = "k-read"
INGEST_KEY = "k-ingest"
SECRET = "s3cret"


def bearer(key: str = ADMIN_KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class FakePublisher(Publisher):
    """Keeps what is published, or fails with `error`."""

    def __init__(self) -> None:
        self.messages: list[OutgoingMessage] = []
        self.error: HogsendError | None = None

    async def publish(self, message: OutgoingMessage, **_within: float) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(message)


@dataclass
class Question:
    """A request to a service, and the correlation id it was sent with."""

    subject: str
    message: msgspec.Struct
    correlation_id: str | None


class FakeConnection(Connection):
    """Answers from `replies`, by subject; every other service does not run."""

    def __init__(self) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self.is_up = True
        self.publisher = self.published = FakePublisher()
        self.replies: dict[str, msgspec.Struct | HogsendError] = {}
        self.questions: list[Question] = []

    @property
    def connected(self) -> bool:
        return self.is_up

    @property
    def max_payload(self) -> int:
        return 1024 * 1024

    def answer(self, endpoint: Endpoint[Any, Any], reply: msgspec.Struct | HogsendError) -> None:
        self.replies[endpoint.subject] = reply

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        **_options: Any,
    ) -> Reply:
        self.questions.append(Question(endpoint.subject, message, correlation_id.get()))
        not_running = Unavailable(f"the {endpoint.service} service is not running")
        reply = self.replies.get(endpoint.subject, not_running)
        if isinstance(reply, HogsendError):
            raise reply
        return cast("Reply", reply)


@dataclass
class FakeGateway:
    http: httpx.AsyncClient
    bus: FakeConnection
    queue: WebhookQueue
    secret: WebhookSecret


@asynccontextmanager
async def fake_gateway(
    *, spool: Spool | None = None, secret: str | None = SECRET, **settings: Any
) -> AsyncIterator[FakeGateway]:
    """The gateway's app with its middleware; `settings` are the gateway's."""
    bus = FakeConnection()
    keys = {
        "admin_api_key": ADMIN_KEY,
        "admin_read_api_key": READ_KEY,
        "ingest_api_key": INGEST_KEY,
    }
    configured = GatewaySettings(**{**keys, "admin_rate_limit": 10_000, **settings})
    queue = WebhookQueue(bus, spool, ack_timeout=1.0)
    webhook_secret = WebhookSecret(bus, CredentialWatcher("posthog"), secret, None)
    posthog, public = PostHogSettings(), PublicUrlSettings(api_public_url="https://t.example.com")
    app = with_middleware(
        build(bus, queue, webhook_secret, configured, posthog=posthog, public=public),
        bus,
        body_seconds=configured.http_request_timeout_seconds,
    )
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield FakeGateway(http, bus, queue, webhook_secret)
