"""Runs analytics with credentials, ingest's contacts, and a PostHog that records requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hogsend.client.client import Client
from hogsend.contract.contacts import Contact, ContactRef
from hogsend.contract.credentials import (
    CREDENTIALS_DELETE,
    CREDENTIALS_PUT,
    OAuthPayload,
    ProviderRef,
    PutCredential,
)
from hogsend.contract.events import INGEST_RECORD, RecordEvent
from hogsend.contract.users import User
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest.app import MIGRATIONS
from services.ingest.contacts.lookup import ContactStore
from tests.integration.harness import (
    AnalyticsReplica,
    Credentials,
    analytics_service,
    client,
    connected,
    credentials_service,
)
from tests.integration.ingest.driver import ingest_service
from tests.posthog_recorder import Recorder, posthog_recorder
from tests.servers import Servers

PERSONAL = "phx_personal"
POSTHOG = "posthog"


@dataclass
class Reading:
    """The running services, and a PostHog that records requests."""

    posthog: Recorder
    credentials: Credentials
    analytics: AnalyticsReplica
    contacts: ContactStore
    member: Client
    gateway: Connection

    async def connect(self, access: str = "pha_1", **changes: Any) -> None:
        """Store an OAuth credential, as `hogsend connect posthog` does."""
        grant: dict[str, Any] = {
            "access_token": access,
            "refresh_token": "phr_1",
            "expires_at": datetime.now(UTC) + timedelta(days=7),
            "token_endpoint": f"{self.posthog.url}/oauth/token/",
            "client_id": CLIENT_ID,
            "scopes": ["person:read", "project:read"],
            "scoped_teams": [4242],
            "scoped_organizations": [],
        }
        payload = OAuthPayload(**{**grant, **changes})
        await self.gateway.request(
            CREDENTIALS_PUT, PutCredential(provider_id=POSTHOG, payload=payload)
        )

    async def disconnect(self) -> None:
        """Delete the credential."""
        await self.gateway.request(CREDENTIALS_DELETE, ProviderRef(provider_id=POSTHOG))

    async def contact(self, user_id: str, **properties: Any) -> None:
        """Create or update a contact in ingest."""
        event = RecordEvent(
            event="seen",
            user_id=user_id,
            contact_properties=properties,
            received_at=datetime.now(UTC),
        )
        await self.gateway.request(INGEST_RECORD, event)

    async def stored_contact(self, user_id: str) -> Contact:
        """Return a contact as ingest stores it."""
        return await self.contacts.find(ContactRef(user_id=user_id).user_id)

    def bearers(self, path: str = "/persons/") -> list[str]:
        """Bearers of all requests whose path contains `path`."""
        return [
            request.headers.get("authorization", "").removeprefix("Bearer ")
            for request in self.posthog.requests
            if path in request.path
        ]


@asynccontextmanager
async def reading(
    servers: Servers,
    database_url: str,
    *,
    personal_key: str | None = None,
    posthog: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[Reading]:
    """Run all services, with the recorder as PostHog's host unless `posthog` sets another."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        recorder = await enter(posthog_recorder())
        gateway = await enter(connected(servers, User.GATEWAY))
        member = await enter(client(servers, User.APP))
        credentials = await enter(
            credentials_service(servers, database_url, personal_key=personal_key)
        )
        contacts = await enter(_ingest(servers, database_url))
        environment = {"posthog_api_key": None, "posthog_host": recorder.url, **(posthog or {})}
        analytics = await enter(
            analytics_service(servers, database_url, posthog=environment, settings=settings)
        )
        yield Reading(recorder, credentials, analytics, contacts, member, gateway)


@asynccontextmanager
async def _ingest(servers: Servers, database_url: str) -> AsyncIterator[ContactStore]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    async with ingest_service(servers, database_url):
        await database.connect()
        try:
            yield ContactStore(database)
        finally:
            await database.close()
