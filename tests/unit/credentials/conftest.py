"""The credentials service in memory: its domain on fakes, without any server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from hogsend.contract.credentials import OAuthPayload, TokenReply, TokenRequest
from hogsend.service.ssrf import EgressPolicy
from services.credentials.authorization.authorizations import Authorizations
from services.credentials.authorization.server import AuthorizationServer
from services.credentials.change_relay import ChangeRelay
from services.credentials.credential_service import CredentialService
from services.credentials.key_rotation import KeyRotation
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.records import Snapshot
from services.credentials.refresh import Refresher
from services.credentials.sealing import Sealer
from services.credentials.token_resolver import TokenResolver
from tests.unit.credentials.fakes import (
    Clock,
    FakeAuthorizationServer,
    FakeTokenEndpoint,
    MemoryAuthorizations,
    MemoryStore,
    MemoryStream,
    make_grant,
)

SECRET = "test-secret"


@dataclass
class Replica:
    """One replica of the service."""

    credentials: CredentialService
    authorizations: Authorizations
    relay: ChangeRelay
    refresher: Refresher
    resolver: TokenResolver
    rotation: KeyRotation

    async def token(self, rejected_sha256: str | None = None) -> TokenReply:
        """Request PostHog's bearer."""
        return await self.resolver.resolve(
            TokenRequest(provider_id="posthog", rejected_sha256=rejected_sha256)
        )


class Driver:
    """The environment of a test: one database, one token endpoint, one stream, and replicas."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.endpoint = FakeTokenEndpoint()
        self.stream = MemoryStream()
        self.sealer = PayloadSealer(Sealer(SECRET))
        self.waiting = MemoryAuthorizations()
        self.posthog = FakeAuthorizationServer()

    def replica(
        self,
        secret: str = SECRET,
        previous: Sequence[str] = (),
        personal_key: str | None = None,
        *,
        allow: Sequence[str] = (),
    ) -> Replica:
        """Create a replica with its own secrets and its own `OUTBOUND_ALLOW`."""
        sealer = Sealer(secret, previous)
        payloads = PayloadSealer(sealer)
        relay = ChangeRelay(self.store, payloads, self.stream)
        refresher = Refresher(self.store, payloads, self.endpoint, relay, self.clock)
        egress = EgressPolicy.of(allow)
        credentials = CredentialService(
            self.store, payloads, relay, egress, personal_key=personal_key is not None
        )
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.posthog))
        return Replica(
            credentials,
            Authorizations(
                self.waiting, sealer, AuthorizationServer(http, egress), credentials, self.clock
            ),
            relay,
            refresher,
            TokenResolver(self.store, payloads, refresher, personal_key, self.clock),
            KeyRotation(self.store, sealer),
        )

    def grant(self, *, left: float, **changes: Any) -> OAuthPayload:
        """Create a grant whose access token expires in `left` seconds."""
        return make_grant(self.clock, left=left, **changes)

    async def put(self, grant: OAuthPayload) -> None:
        """Store PostHog's grant, as connecting does."""
        await self.store.save("posthog", "oauth", self.sealer.seal(grant))

    async def stored(self) -> OAuthPayload | None:
        """Read the stored grant."""
        return self.sealer.grant((await self.snapshot()).rows).payload

    async def snapshot(self) -> Snapshot:
        """Read everything that is stored for PostHog."""
        return await self.store.load("posthog")


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def replica(driver: Driver) -> Replica:
    return driver.replica()
