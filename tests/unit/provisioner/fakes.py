"""The provisioner in memory: its real code over fake dependencies, without a server.

PostHog is the recorder of the integration tests, called without a socket.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    TokenReply,
)
from hogsend.contract.errors import GrantReplaced, HogsendError, Unavailable
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.posthog.scopes import SCOPES
from hogsend.transport.connection import Connection
from services.provisioner.credentials import Credentials
from services.provisioner.destination.provisioning import Instance, Provisioning
from services.provisioner.destination.signing_secret import SigningSecrets
from services.provisioner.destination.store import DestinationStore, ProvisioningLock
from services.provisioner.destination.webhook_secret import WebhookSecrets
from services.provisioner.diagnosis.diagnostics import Diagnostics
from tests.destinations import PUBLIC_URL, SECRET
from tests.posthog_recorder import Recorder

POSTHOG_URL = "https://posthog.example"
TOMORROW = datetime.now(UTC) + timedelta(days=1)
HEALTH = {"status": "healthy", "components": {"database": {"status": "up"}}}


class FakeLink(Connection):
    """A connection to a credentials service whose version grows with each reply."""

    def __init__(self) -> None:
        super().__init__(User.PROVISIONER, "nats://127.0.0.1:4222")
        self.requests: list[tuple[str, Any]] = []
        self.hangs = False

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        **_options: Any,
    ) -> Reply:
        self.requests.append((endpoint.verb, message))
        if self.hangs:
            await asyncio.Event().wait()
        version = len(self.requests)
        token = f"pha_{version}"
        replies: dict[str, Any] = {
            CREDENTIALS_TOKEN.verb: TokenReply(
                source="oauth", version=version, token=token, expires_at=TOMORROW
            ),
            CREDENTIALS_GET_DERIVED.verb: DerivedReply(version=version, state="absent"),
            CREDENTIALS_STATUS.verb: CredentialStatus(
                version=version, oauth="present", scopes=[], webhook_secret="absent"
            ),
            CREDENTIALS_PUT_DERIVED.verb: CredentialStatus(
                version=version, oauth="present", scopes=[], webhook_secret="present"
            ),
        }
        reply: Reply = replies[endpoint.verb]
        return reply


class FakeCredentials(Credentials):
    """A credentials service in memory; a method raises its error in `failures`."""

    def __init__(self) -> None:
        self.token: TokenReply = TokenReply(source="oauth", version=1, token="pha_a", generation=1)
        self.fresh: TokenReply = self.token
        """Reply to a request that names a rejected token."""
        self.cached: TokenReply | None = None
        """The cached bearer; None if it is `token`."""
        self.grant = CredentialStatus(
            version=1,
            oauth="present",
            scopes=list(SCOPES),
            webhook_secret="absent",
            generation=1,
        )
        self.derived_reply = DerivedReply(version=1, state="absent")
        self.rejected: list[str] = []
        self.deadlines: list[float] = []
        self.stored: list[DerivedPayload] = []
        self.failures: dict[str, HogsendError] = {}

    @property
    def version(self) -> int | None:
        return self.token.version

    def store_payload(self, **payload: Any) -> None:
        """Store a derived payload."""
        self.derived_reply = DerivedReply(
            version=1, state="present", payload=DerivedPayload(**payload)
        )

    def store_unreadable(self) -> None:
        """Store a derived payload that cannot be unsealed."""
        self.derived_reply = DerivedReply(version=1, state="unreadable")

    async def bearer(self) -> TokenReply:
        self._fail("bearer")
        return self.token

    async def replace_bearer(self, rejected: str) -> TokenReply:
        self._fail("bearer")
        self.rejected.append(rejected)
        return self.fresh

    async def cached_bearer(self, seconds: float) -> TokenReply:
        self.deadlines.append(seconds)
        self._fail("bearer")
        return self.cached or self.token

    async def derived(self) -> DerivedReply:
        self._fail("derived")
        return self.derived_reply

    async def store_derived(self, payload: DerivedPayload, generation: int | None = None) -> None:
        self._fail("store_derived")
        if generation is not None and generation != self.grant.generation:
            raise GrantReplaced("another grant was connected meanwhile")
        self.stored.append(payload)
        self.derived_reply = DerivedReply(version=1, state="present", payload=payload)

    async def status(self) -> CredentialStatus:
        self._fail("status")
        return self.grant

    def fail_all(self) -> None:
        """Make every method fail."""
        down = Unavailable("the credentials service is not running")
        self.failures = dict.fromkeys(("bearer", "derived", "store_derived", "status"), down)

    def _fail(self, method: str) -> None:
        if method in self.failures:
            raise self.failures[method]


class FakeLock(ProvisioningLock):
    """The lock of a `FakeStore`."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def confirm(self) -> None:
        if self._store.lock_is_lost:
            raise Unavailable("this run lost its lock; try again")

    async def provisioned(self, project: str) -> dict[str, str]:
        return dict(self._store.urls.get(project, {}))

    async def record(self, project: str, hog_function: str, webhook_url: str) -> None:
        self._store.urls.setdefault(project, {})[hog_function] = webhook_url


class FakeStore(DestinationStore):
    """The provisioner's schema in memory."""

    def __init__(self) -> None:
        self.urls: dict[str, dict[str, str]] = {}
        """URLs set on destinations, by project and destination."""
        self.is_down = False
        self.is_frozen = False
        """Whether reads hang."""
        self.lock_is_lost = False
        self.connections = 0
        """Connections of runs that wait for the lock or hold it."""
        self.max_connections = 0
        self._lock = asyncio.Lock()

    @property
    def is_locked(self) -> bool:
        """Whether a run holds the lock."""
        return self._lock.locked()

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[ProvisioningLock]:
        self._fail()
        self.connections += 1
        self.max_connections = max(self.max_connections, self.connections)
        try:
            async with self._lock:
                yield FakeLock(self)
        finally:
            self.connections -= 1

    async def provisioned(self, project: str) -> dict[str, str]:
        self._fail()
        if self.is_frozen:
            await asyncio.Event().wait()
        return dict(self.urls.get(project, {}))

    def _fail(self) -> None:
        if self.is_down:
            raise Unavailable("PostgreSQL is not available")


class FakeInstance:
    """The server at another Hogsend's host, and the requests that it received."""

    def __init__(self, status: int = 200, body: Any = HEALTH, location: str | None = None) -> None:
        self._status = status
        self._content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._headers = {} if location is None else {"location": location}
        self.requests: list[httpx.Request] = []

    def transport(self) -> httpx.AsyncBaseTransport:
        """Create a transport that calls this server without a socket."""
        return httpx.MockTransport(self._respond)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._status, content=self._content, headers=self._headers)


class Hosts(httpx.AsyncBaseTransport):
    """A transport that reaches the given hosts only."""

    def __init__(self, hosts: Mapping[str, httpx.AsyncBaseTransport]) -> None:
        self._hosts = hosts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host not in self._hosts:
            raise httpx.ConnectError(f"no route to {request.url.host}")
        return await self._hosts[request.url.host].handle_async_request(request)


def http_to(
    posthog: Recorder, instances: Mapping[str, FakeInstance] | None = None
) -> httpx.AsyncClient:
    """Create a client that reaches `posthog` and `instances`."""
    hosts: dict[str, httpx.AsyncBaseTransport] = {"posthog.example": httpx.ASGITransport(posthog)}
    hosts |= {host: instance.transport() for host, instance in (instances or {}).items()}
    return httpx.AsyncClient(transport=Hosts(hosts), timeout=None)  # noqa: S113


@dataclass
class InMemoryProvisioner:
    """The provisioner with its fake dependencies."""

    posthog: Recorder
    credentials: FakeCredentials
    store: FakeStore
    http: httpx.AsyncClient
    instance: Instance
    secrets: WebhookSecrets
    provisioning: Provisioning
    diagnostics: Diagnostics


def compose(
    posthog: Recorder | None = None,
    credentials: FakeCredentials | None = None,
    store: FakeStore | None = None,
    *,
    private_host: str | None = POSTHOG_URL,
    project_id: str | None = None,
    public_url: str = PUBLIC_URL,
    secret: str | None = SECRET,
    signing_secret: str | None = None,
    minting: bool = True,
    instances: Mapping[str, FakeInstance] | None = None,
) -> InMemoryProvisioner:
    """Compose a provisioner; by default with a stored grant and a configured webhook secret."""
    posthog = posthog or Recorder(url=POSTHOG_URL)
    credentials, store = credentials or FakeCredentials(), store or FakeStore()
    instance = Instance(private_host, project_id, public_url)
    secrets = WebhookSecrets(credentials, secret, minting=minting)
    signing = SigningSecrets(credentials, signing_secret, minting=minting)
    http = http_to(posthog, instances)
    return InMemoryProvisioner(
        posthog=posthog,
        credentials=credentials,
        store=store,
        http=http,
        instance=instance,
        secrets=secrets,
        provisioning=Provisioning(instance, credentials, secrets, store, http, signing=signing),
        diagnostics=Diagnostics(instance, credentials, secrets, store, http, signing=signing),
    )
