"""A subscriber of a cluster of three NATS servers continues while a server is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from hogsend.client.client import Client
from hogsend.contract.streams import Limits, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.integration.bus.publishing import announce, two_sides
from tests.integration.harness import connected
from tests.nats_cluster import COUNT, NatsCluster, nats_cluster
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture
async def cluster() -> AsyncIterator[NatsCluster]:
    async with nats_cluster() as cluster:
        async with connected(cluster, User.INGEST) as ingest:
            await streams.reconcile(ingest.js, User.INGEST, Limits(COUNT))
        async with connected(cluster, User.CREDENTIALS) as credentials:
            await streams.reconcile(credentials.js, User.CREDENTIALS, Limits(COUNT))
        yield cluster


async def only_consumer(bus: Connection) -> str | None:
    """Return the server that leads the only consumer of events; None without a consumer."""
    consumers = await bus.js.consumers_info(StreamName.EVENTS)
    return consumers[0].cluster.leader if consumers and consumers[0].cluster else None


async def test_a_subscriber_without_a_durable_continues_when_the_server_of_its_consumer_is_down(
    cluster: NatsCluster,
) -> None:
    async with two_sides(cluster) as (ingest, subscriber):
        events = Client(subscriber).events()
        waiting = asyncio.create_task(anext(events))
        server = await eventually(lambda: only_consumer(ingest))
        await announce(ingest, "1")
        assert (await waiting).id == "1"
        await asyncio.to_thread(cluster.kill, server)
        for id in ("2", "3"):
            await eventually(partial(is_announced, ingest, id))
        async with asyncio.timeout(PATIENCE_SECONDS * 2):
            assert [(await anext(events)).id for _ in range(2)] == ["2", "3"]
        # The server that was killed may have led the stream as well.
        await eventually(lambda: is_announced(ingest, "4"))
        assert (await asyncio.wait_for(anext(events), PATIENCE_SECONDS)).id == "4"


async def is_announced(bus: Connection, id: str) -> bool:
    """Publish an event; return whether JetStream has stored it."""
    try:
        await announce(bus, id)
    except Exception:  # noqa: BLE001 - a leader is being elected
        return False
    return True
