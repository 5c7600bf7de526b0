"""Events that ingest publishes on a real server, for a subscriber."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.events import Event
from hogsend.contract.headers import message_headers
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.integration.harness import connected, consumer_api
from tests.servers import Servers

NOW = datetime(2026, 11, 24, tzinfo=UTC)


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
    event = Event(
        id=id,
        event=name,
        source="posthog",
        user_id="u_42",
        contact_key="u_42",
        occurred_at=NOW,
        received_at=NOW,
        properties=properties or {},
    )
    headers = message_headers(id=id, source="ingest", type="event", time=NOW)
    await bus.publish(subjects.event(name), msgspec.json.encode(event), headers)
