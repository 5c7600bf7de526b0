"""A token endpoint, a clock that tests advance, and grants to store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hogsend.contract.credentials import OAuthPayload, TokenReply, TokenRequest
from hogsend.posthog.client_document import CLIENT_ID
from tests.integration.harness import Credentials, credentials_service
from tests.servers import Servers
from tests.token_endpoint import TokenServer, token_server


@dataclass
class Clock:
    """A clock that tests advance."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        """Return the current time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += timedelta(seconds=seconds)


@dataclass
class Driver:
    """The environment of a test of the token life cycle."""

    endpoint: TokenServer
    clock: Clock
    replica: Callable[..., AbstractAsyncContextManager[Credentials]]
    """Starts another credentials service on the same database. Keywords as for the harness."""

    def grant(self, *, expires_in: float, **changes: Any) -> OAuthPayload:
        """Create a grant whose access token expires in `left` seconds."""
        grant: dict[str, Any] = {
            "access_token": "pha_0",
            "refresh_token": "phr_0",
            "expires_at": self.clock.now + timedelta(seconds=expires_in),
            "token_endpoint": self.endpoint.url,
            "client_id": CLIENT_ID,
            "scopes": ["person:read", "project:read"],
            "scoped_teams": [4242],
            "scoped_organizations": ["0190aa51-6a70-0000-5c6d-2b5ea0c8a2d9"],
        }
        return OAuthPayload(**{**grant, **changes})


async def request_token(service: Credentials, rejected_sha256: str | None = None) -> TokenReply:
    """Request PostHog's bearer."""
    request = TokenRequest(provider_id="posthog", rejected_sha256=rejected_sha256)
    return await service.resolver.resolve(request)


async def stored(service: Credentials) -> OAuthPayload | None:
    """Read the stored grant."""
    return service.sealer.grant((await service.store.load("posthog")).rows).payload


@pytest.fixture
def endpoint() -> Iterator[TokenServer]:
    with token_server() as running:
        yield running


@pytest.fixture
def driver(servers: Servers, database_url: str, fresh_bus: None, endpoint: TokenServer) -> Driver:
    clock = Clock()

    def replica(**changes: Any) -> AbstractAsyncContextManager[Credentials]:
        return credentials_service(servers, database_url, **{"now": clock, **changes})

    return Driver(endpoint, clock, replica)


@pytest.fixture
async def service(driver: Driver) -> AsyncIterator[Credentials]:
    async with driver.replica() as running:
        yield running
