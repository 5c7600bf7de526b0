"""A gateway without a server, a bus or a disk: requests go to its app in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

from hogsend.contract.credentials import (
    CREDENTIALS_SIGNING_SECRET,
    CREDENTIALS_WEBHOOK_SECRET,
    SigningSecretReply,
    WebhookSecretReply,
)
from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.headers import MESSAGE_ID
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.request_memory import RequestMemory
from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from hogsend.transport.connection import Connection
from hogsend.transport.correlation import correlation_id
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.gateway.api import build, with_middleware
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from services.gateway.signing_keys import SigningKeys
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.spool.spool import Spool
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.link import Workers

ADMIN_KEY = "k-admin"
READ_KEY = "k-read"
INGEST_KEY = "k-ingest"
SECRET = "s3cret"


def bearer(key: str = ADMIN_KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class FakePublisher(Publisher):
    """Records published messages. `fail` returns the error of a message that fails, or None."""

    def __init__(self) -> None:
        self.messages: list[OutgoingMessage] = []
        self.reset()

    def reset(self) -> None:
        """Forget all messages, and let none fail."""
        self.messages.clear()
        self.attempts = 0
        self.fail: Callable[[OutgoingMessage], Exception | None] = lambda _message: None

    @property
    def ids(self) -> list[str]:
        """Ids by which JetStream deduplicates, in the order of publishing."""
        return [message.headers[MESSAGE_ID] for message in self.messages]

    async def publish(self, message: OutgoingMessage, **_within: float) -> None:
        self.attempts += 1
        error = self.fail(message)
        if error is not None:
            try:
                raise error
            finally:
                # As `Publisher` does: a frame that refers to its error keeps the request alive.
                del error
        self.messages.append(message)


@dataclass
class SentRequest:
    """A request to a service, and the correlation id with which it was sent."""

    subject: str
    message: msgspec.Struct
    correlation_id: str | None


class FakeConnection(Connection):
    """Replies to requests from `replies`, by subject. Other services are unavailable."""

    def __init__(self) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self.publisher = self.published = FakePublisher()
        self.replies: dict[str, msgspec.Struct | HogsendError] = {}
        self.sent: list[SentRequest] = []
        self.reset()

    def reset(self) -> None:
        """Be connected, and forget all replies, requests and messages."""
        self.is_up = True
        self.payload_limit: int | None = 8 * 1024 * 1024
        self.published.reset()
        self.replies.clear()
        self.sent.clear()

    @property
    def connected(self) -> bool:
        return self.is_up

    @property
    def max_payload(self) -> int:
        return self.payload_limit or 1024 * 1024

    @property
    def last_max_payload(self) -> int | None:
        return self.payload_limit

    def reply_with(
        self, endpoint: Endpoint[Any, Any], reply: msgspec.Struct | HogsendError
    ) -> None:
        self.replies[endpoint.subject] = reply

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        **_options: Any,
    ) -> Reply:
        self.sent.append(SentRequest(endpoint.subject, message, correlation_id.get()))
        not_running = Unavailable(f"the {endpoint.service} service is not running")
        reply = self.replies.get(endpoint.subject, not_running)
        if isinstance(reply, HogsendError):
            raise reply
        return cast("Reply", reply)


@dataclass
class FakeGateway:
    app: Any
    http: httpx.AsyncClient
    bus: FakeConnection
    queue: WebhookQueue
    secret: WebhookSecret
    watcher: CredentialWatcher
    routes: list[Any]
    memory: RequestMemory


@asynccontextmanager
async def fake_gateway(
    *,
    secret: str | None = SECRET,
    minted: WebhookSecretReply | HogsendError | None = None,
    spool: Spool | None = None,
    cache: Path | None = None,
    posthog: dict[str, Any] | None = None,
    signing: SigningSecretReply | HogsendError | None = None,
    public_url: str = "https://t.example.com",
    **settings: Any,
) -> AsyncIterator[FakeGateway]:
    """Run the gateway's app with its middleware.

    Args:
        secret: the setting `POSTHOG_WEBHOOK_SECRET`.
        minted: reply of credentials to the request for the webhook secret, which is sent at start.
        spool: the spool for webhooks that JetStream does not accept.
        cache: file that stores the digest of the generated secret.
        posthog: further settings for PostHog.
        signing: reply of credentials to the request for signing keys, which is sent at start.
        public_url: the setting `API_PUBLIC_URL`.
        settings: settings of the gateway.
    """
    bus = FakeConnection()
    keys = {
        "admin_api_key": ADMIN_KEY,
        "admin_read_api_key": READ_KEY,
        "ingest_api_key": INGEST_KEY,
    }
    configured = GatewaySettings(**{**keys, "admin_rate_limit": 10_000, **settings})
    queue = WebhookQueue(bus, spool, ack_timeout=1.0)
    watcher = CredentialWatcher("posthog")
    webhook_secret = WebhookSecret(
        bus,
        watcher,
        secret,
        cache,
        may_be_open=configured.webhook_open,
    )
    if minted is not None:
        bus.reply_with(CREDENTIALS_WEBHOOK_SECRET, minted)
        await webhook_secret.refresh()
    with_posthog = PostHogSettings(**{"posthog_webhook_secret": secret, **(posthog or {})})
    signing_keys = SigningKeys.of(bus, watcher, configured, with_posthog)
    if signing is not None:
        bus.reply_with(CREDENTIALS_SIGNING_SECRET, signing)
        await signing_keys.renew()
    parts = Parts(
        bus=bus,
        settings=configured,
        posthog=with_posthog,
        watcher=watcher,
        webhook_secret=webhook_secret,
        signing_keys=signing_keys,
        size=SizeLimit(bus, configured.webhook_max_bytes),
        spool=spool,
        queue=queue,
        workers=Workers(queue),
    )
    litestar = build(parts, PublicUrlSettings(api_public_url=public_url))
    app = with_middleware(litestar, bus, configured)
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        memory = litestar.state.decoded_bodies.memory
        yield FakeGateway(app, http, bus, queue, webhook_secret, watcher, litestar.routes, memory)
