"""What `Client.events` promises a handler: its event stays its own, and no wait is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import pytest
from nats.aio.msg import Msg

from hogsend.client import subscriptions
from hogsend.client.client import Client
from hogsend.contract import subjects
from hogsend.contract.events import Event
from hogsend.contract.headers import message_headers
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import eventually

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DURABLE = "slow"


@asynccontextmanager
async def two_sides(servers: Servers) -> AsyncIterator[tuple[Connection, Connection]]:
    """Who announces events, and a subscriber."""
    async with connected(servers, User.INGEST) as ingest:
        await streams.reconcile(ingest.js, User.INGEST)
        async with connected(servers, User.SUBSCRIBER) as subscriber:
            yield ingest, subscriber


async def announce(bus: Connection, id: str) -> None:
    event = Event(
        id=id,
        event="signed_up",
        source="posthog",
        user_id="u_42",
        contact_key="u_42",
        occurred_at=NOW,
        received_at=NOW,
        properties={},
    )
    headers = message_headers(id=id, source="ingest", type="event", time=NOW)
    await bus.publish(subjects.event("signed_up"), msgspec.json.encode(event), headers)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[Msg]:
    """A JetStream that waits for one second; gives what it was told to wait for."""
    monkeypatch.setattr(subscriptions, "ACK_WAIT_SECONDS", 1.0)
    monkeypatch.setattr(subscriptions, "HEARTBEAT_SECONDS", 0.2)
    told: list[Msg] = []
    in_progress = Msg.in_progress

    async def tell(self: Msg) -> None:
        await in_progress(self)
        told.append(self)

    monkeypatch.setattr(Msg, "in_progress", tell)
    return told


async def test_a_slow_handler_keeps_its_event(
    servers: Servers, fresh_bus: None, impatient: list[Msg]
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        events = Client(subscriber).events(durable=DURABLE)
        assert (await anext(events)).id == "1"
        # Twice as long as JetStream waits.
        await eventually(lambda: len(impatient) >= 10)
        consumer = await subscriber.js.consumer_info(StreamName.EVENTS, DURABLE)
        assert (consumer.num_redelivered, consumer.num_ack_pending) == (0, 1)
        await announce(ingest, "2")
        assert (await anext(events)).id == "2"


async def test_who_stops_iterating_holds_nothing_back(
    servers: Servers, fresh_bus: None, impatient: list[Msg]
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        async for event in Client(subscriber).events(durable=DURABLE):
            assert event.id == "1"
            break
        async with connected(servers, User.SUBSCRIBER) as other:
            again = await asyncio.wait_for(anext(Client(other).events(durable=DURABLE)), 20)
        assert again.id == "1"


async def test_a_wait_cut_short_is_taken_up_again(servers: Servers, fresh_bus: None) -> None:
    async with (
        two_sides(servers) as (ingest, subscriber),
        connected(servers, User.OPERATOR) as operator,
    ):
        events = Client(subscriber).events()
        await announce(ingest, "before anybody listened")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.2)
        await eventually(lambda: operator.js.consumers_info(StreamName.EVENTS))
        for id in ("1", "2"):
            await announce(ingest, id)
            assert (await asyncio.wait_for(anext(events), 20)).id == id
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.2)
