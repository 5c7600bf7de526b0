"""Slow requests on a real NATS: their callers find out whether a replica works on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import msgspec
import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hogsend.contract.discovery import MAX_PING_BYTES, PingedReplica, PingQuery, ping_subject
from hogsend.contract.errors import Unavailable
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.contract.headers import REQUEST_ID
from hogsend.contract.streams import MIB
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from hogsend.service.subscribers.pings import PingSubscriber
from hogsend.service.subscribers.requests import RequestSubscriber
from hogsend.transport.connection import Connection
from hogsend.transport.pending_bytes import pending_bytes_limit
from tests.integration.harness import connected, received_pings, serving
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

HOURS = 10 * 3600.0
FLAGS = Flags(values={"beta": True})
REPLICA_IS_FROZEN = (
    "the replica of the analytics service that received the request does not respond; it may still "
    "carry it out"
)
PING = ping_subject(User.ANALYTICS)


class Work:
    """Counts the requests in progress, which finish when the test allows it."""

    def __init__(self) -> None:
        self.may_finish = asyncio.Event()
        self.in_progress = 0


router = ServiceRouter()


@router.endpoint(ANALYTICS_FLAGS)
async def evaluate(_request: GetFlags, work: Injected[Work]) -> Flags:
    work.in_progress += 1
    await work.may_finish.wait()
    work.in_progress -= 1
    return FLAGS


@asynccontextmanager
async def running(servers: Servers, work: Work) -> AsyncIterator[ServiceBroker]:
    """Run a replica of analytics."""
    async with serving(servers, User.ANALYTICS, router, work) as broker:
        yield broker


@asynccontextmanager
async def frozen_replica(servers: Servers) -> AsyncIterator[list[Msg]]:
    """Run a replica that receives requests and replies to nothing; yield the requests."""
    received = list[Msg]()

    async def receive(message: Msg) -> None:
        received.append(message)

    async with connected(servers, User.ANALYTICS) as bus:
        await bus.client.subscribe(ANALYTICS_FLAGS.subject, queue="analytics", cb=receive)
        await bus.flush()
        yield received


@pytest.fixture(params=[User.GATEWAY, User.APP], ids=str)
async def caller(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Connection]:
    """Connect as a user of the services' account, and as one of another account."""
    async with connected(servers, request.param) as connection:
        yield connection


def start(caller: Connection) -> asyncio.Task[Flags]:
    """Send a request that may take hours."""
    return asyncio.create_task(
        caller.request(ANALYTICS_FLAGS, GetFlags(distinct_id="u_42"), deadline=HOURS)
    )


async def test_a_request_waits_for_the_replica_that_works_on_it(
    servers: Servers, caller: Connection, frequent_pings: None
) -> None:
    work = Work()
    async with (
        running(servers, work),
        running(servers, work),
        received_pings(servers, User.ANALYTICS) as pings,
    ):
        requests = [start(caller) for _ in range(10)]
        await eventually(lambda: len(pings) > 100)
        assert not any(request.done() for request in requests)
        work.may_finish.set()
        assert await asyncio.gather(*requests) == [FLAGS] * 10


async def test_a_caller_receives_the_reply_of_every_replica_to_one_ping(
    servers: Servers, caller: Connection
) -> None:
    replies = list[bytes]()

    async def receive(message: Msg) -> None:
        replies.append(message.data)

    async with running(servers, Work()), running(servers, Work()):
        inbox = caller.client.new_inbox()
        await caller.client.subscribe(inbox, cb=receive)
        await caller.client.publish(PING, b"", reply=inbox)
        await eventually(lambda: len(replies) == 2)


async def test_a_request_to_a_single_frozen_replica_fails(
    servers: Servers, caller: Connection, frequent_pings: None
) -> None:
    async with frozen_replica(servers):
        with pytest.raises(Unavailable, match="the analytics service does not respond"):
            await start(caller)


async def test_a_request_fails_when_a_frozen_replica_received_it_and_others_do_not(
    servers: Servers, caller: Connection, frequent_pings: None
) -> None:
    work = Work()
    async with running(servers, work), frozen_replica(servers) as received:
        requests = [start(caller)]
        while not (received and work.in_progress):
            requests.append(start(caller))
            await caller.flush()
        work.may_finish.set()
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
    refusals = [str(outcome) for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert len(refusals) == len(received)
    assert set(refusals) == {REPLICA_IS_FROZEN}
    assert [outcome for outcome in outcomes if not isinstance(outcome, Unavailable)] == [FLAGS] * (
        len(requests) - len(received)
    )


async def in_progress(caller: Connection, *ids: str) -> list[str] | None:
    """Return which of the requests the only replica reports to have."""
    query = msgspec.json.encode(PingQuery(requests=[*ids]))
    reply = await caller.client.request(PING, query, timeout=60)
    return msgspec.json.decode(reply.data, type=PingedReplica).in_progress


async def test_a_replica_reports_all_requests_that_it_has_not_replied_to(servers: Servers) -> None:
    """Those that are handled, that wait for memory, and that wait in nats-py's queue."""
    work = Work()
    # A decoded request takes some 44 MiB.
    large = b'{"distinctId":"u","unknown":[%b0]}' % (b"[]," * (MIB // 3))
    ids = [f"id-{number}" for number in range(5)]
    async with running(servers, work) as broker, connected(servers, User.GATEWAY) as gateway:
        requests = [
            asyncio.create_task(
                gateway.client.request(
                    ANALYTICS_FLAGS.subject, large, timeout=120, headers={REQUEST_ID: id}
                )
            )
            for id in ids
        ]
        (flags,) = (each for each in broker.subscribers if isinstance(each, RequestSubscriber))
        subscription = cast("Subscription", flags.subscription)
        await eventually(lambda: subscription.pending_msgs == 2)
        assert work.in_progress == 2
        received = await in_progress(gateway, *ids, "id-5")
        work.may_finish.set()
        await asyncio.gather(*requests)
        replied = await in_progress(gateway, *ids)
    assert (received, replied) == (ids, [])


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{", b"\xff"])
async def test_a_ping_without_a_request_has_the_reply_of_nats_micro_services(
    servers: Servers, body: bytes
) -> None:
    async with running(servers, Work()), connected(servers, User.GATEWAY) as gateway:
        reply = await gateway.client.request(PING, body, timeout=60)
    assert set(msgspec.json.decode(reply.data)) == {"name", "id", "version", "metadata", "type"}


async def test_a_stopping_replica_replies_to_pings_about_a_request_that_is_not_in_progress_yet(
    servers: Servers,
) -> None:
    work = Work()
    work.may_finish.set()
    large = b'{"distinctId":"u","unknown":[%b0]}' % (b"[]," * (MIB // 3))
    async with connected(servers, User.GATEWAY) as gateway:
        stack = AsyncExitStack()
        broker = await stack.enter_async_context(running(servers, work))
        reserved = await broker.request_memory.admit(b"[%b0]" % (b"[]," * (4 * MIB // 5)))
        request = asyncio.create_task(
            gateway.client.request(
                ANALYTICS_FLAGS.subject, large, timeout=120, headers={REQUEST_ID: "id"}
            )
        )
        while await in_progress(gateway, "id") != ["id"]:
            pass
        assert broker.requests == set(), "it waits for memory"
        stopping = asyncio.create_task(stack.aclose())
        (pings,) = (each for each in broker.subscribers if isinstance(each, PingSubscriber))
        await eventually(lambda: pings.is_stopping)
        assert await in_progress(gateway, "id") == ["id"]
        broker.request_memory.release(reserved)
        await request
        await stopping


async def test_pings_of_any_size_take_little_memory(servers: Servers) -> None:
    long = PingQuery(requests=["id", "x" * MAX_PING_BYTES])
    async with running(servers, Work()) as broker, connected(servers, User.APP) as app:
        reply = await app.client.request(PING, msgspec.json.encode(long), timeout=60)
        (pings,) = (each for each in broker.subscribers if isinstance(each, PingSubscriber))
        subscription = cast("Subscription", pings.subscription)
        assert subscription._pending_bytes_limit == pending_bytes_limit(broker.link.client)
    assert msgspec.json.decode(reply.data, type=PingedReplica).in_progress is None


async def test_a_stopping_replica_replies_only_to_pings_about_its_requests(
    servers: Servers,
) -> None:
    work = Work()
    async with connected(servers, User.GATEWAY) as gateway:
        stack = AsyncExitStack()
        broker = await stack.enter_async_context(running(servers, work))
        request = asyncio.create_task(
            gateway.client.request(
                ANALYTICS_FLAGS.subject,
                b'{"distinctId":"u"}',
                timeout=120,
                headers={REQUEST_ID: "id"},
            )
        )
        await eventually(lambda: work.in_progress)
        stopping = asyncio.create_task(stack.aclose())
        (pings,) = (each for each in broker.subscribers if isinstance(each, PingSubscriber))
        await eventually(lambda: pings.is_stopping)
        assert await in_progress(gateway, "id") == ["id"]
        replies = list[Msg]()

        async def receive(message: Msg) -> None:
            replies.append(message)

        inbox = gateway.client.new_inbox()
        await gateway.client.subscribe(inbox, cb=receive)
        await gateway.client.publish(PING, b"", reply=inbox)
        # The replica processes pings in order.
        assert await in_progress(gateway, "id") == ["id"]
        await gateway.flush()
        work.may_finish.set()
        await request
        await stopping
    assert replies == []
