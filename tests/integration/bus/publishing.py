"""Events and changes of the credential, published on a real server for a subscriber."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.events import Event
from hogsend.contract.headers import message_headers
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.integration.harness import connected, consumer_api
from tests.messages import NOW, credential_change, event
from tests.servers import Servers


@asynccontextmanager
async def two_sides(servers: Servers) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connect as ingest, which publishes events, and as a subscriber."""
    async with (
        consumer_api(servers),
        connected(servers, User.INGEST) as ingest,
        connected(servers, User.SUBSCRIBER) as subscriber,
    ):
        yield ingest, subscriber


async def announce(
    bus: Connection, id: str, name: str = "signed_up", properties: Properties | None = None
) -> None:
    await publish_event(bus, event(id, name, properties=properties or {}))


async def publish_event(bus: Connection, event: Event) -> None:
    headers = message_headers(id=event.id, source="ingest", type="event", time=NOW)
    await bus.publish(subjects.event(event.event), msgspec.json.encode(event), headers)


async def publish_change(bus: Connection, version: int) -> None:
    headers = message_headers(
        id=f"c:{version}", source="credentials", type="credential.changed", time=NOW
    )
    body = msgspec.json.encode(credential_change(version))
    await bus.publish(subjects.credential_changed("posthog"), body, headers)
