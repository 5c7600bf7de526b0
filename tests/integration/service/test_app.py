"""A service with its app and broker, on a real NATS: requests, batches, discovery and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError
from nats.micro.request import ERROR_CODE_HEADER

from hogsend.contract.activity import ACTIVITY_SUBJECT, Activity
from hogsend.contract.audit import INGEST_AUDIT, AuditEntry, AuditPage, ListAudit
from hogsend.contract.discovery import ping_subject
from hogsend.contract.errors import Forbidden, InvalidRequest, NotFound, TooLarge, Unavailable
from hogsend.contract.streams import INGEST_CONSUMER, MIB, StreamName
from hogsend.contract.users import User
from hogsend.service import metrics
from hogsend.service.app import service_app, started
from hogsend.service.broker import ServiceBroker
from hogsend.service.discovery import Stats
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from hogsend.service.subscribers import batches
from hogsend.service.subscribers.requests import RequestSubscriber
from hogsend.transport.connection import Connection
from hogsend.transport.scatter_gather import request_many
from hogsend.transport.typed_requests import encode_request
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually, more_than

pytestmark = pytest.mark.usefixtures("fresh_bus")

SUBJECT = "hogsend.webhooks.posthog"


class Work:
    """Records what the handlers receive, and controls what they do."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.gate: asyncio.Event | None = None
        self.in_progress = 0
        self.acknowledge = True
        self.entries: list[AuditEntry] = []

    async def start(self) -> None:
        """Count a call, and wait for the gate if a test has set one."""
        self.in_progress += 1
        if self.gate is not None:
            await self.gate.wait()


router = ServiceRouter()


@router.endpoint(INGEST_AUDIT)
async def audit(request: ListAudit, work: Injected[Work]) -> AuditPage:
    await work.start()
    if request.action and request.action.startswith("missing"):
        raise NotFound(f"there is none{request.action.removeprefix('missing')}")
    return AuditPage(work.entries, total=request.offset, limit=request.limit, offset=request.offset)


@router.batches(StreamName.WEBHOOKS, INGEST_CONSUMER, batch=500, workers=2)
async def webhooks(messages: list[Msg], work: Injected[Work]) -> None:
    work.batches.append([message.data for message in messages])
    await work.start()
    if len(messages) > 1 and any(message.data == b"poison" for message in messages):
        raise ValueError("poison")
    for message in messages:
        if message.data == b"poison":
            raise ValueError("poison")
        if work.acknowledge:
            await message.ack()


@asynccontextmanager
async def running(servers: Servers, work: Work) -> AsyncIterator[ServiceBroker]:
    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, servers.nats_url(User.INGEST)))
    broker.provide(work)
    broker.include(router, activity=Activity)
    async with started(service_app(broker)):
        yield broker


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def gateway(servers: Servers) -> AsyncIterator[Connection]:
    async with connected(servers, User.GATEWAY) as gateway:
        yield gateway


async def send(gateway: Connection, *bodies: bytes) -> None:
    for body in bodies:
        await gateway.publish(SUBJECT, body, {})


async def queued(servers: Servers) -> int:
    async with connected(servers, User.OPERATOR) as operator:
        return (await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages


async def test_a_request_gets_the_reply_or_the_error_of_its_handler(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    async with running(servers, work):
        assert (await gateway.request(INGEST_AUDIT, ListAudit(offset=7))).total == 7
        with pytest.raises(NotFound, match="there is none"):
            await gateway.request(INGEST_AUDIT, ListAudit(action="missing"))


async def test_a_reply_or_a_request_above_the_payload_limit_is_too_large(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    entry = AuditEntry(
        id=uuid4(),
        at=datetime.now(UTC),
        actor="x" * 1000,
        action="analytics.post",
        resource="provision-loop",
        status=200,
        request_id="r",
        address="127.0.0.1",
    )
    work.entries = [entry] * (gateway.max_payload // 1000)
    async with running(servers, work):
        with pytest.raises(TooLarge, match="request less"):
            await gateway.request(INGEST_AUDIT, ListAudit())
        with pytest.raises(TooLarge, match="request"):
            await gateway.request(INGEST_AUDIT, ListAudit(action="x" * gateway.max_payload))


async def test_headers_count_towards_the_payload_limit(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    spare = gateway.max_payload - len(encode_request(ListAudit(action="missing")))
    largest = ListAudit(action="missing" + "x" * spare)
    async with running(servers, work) as broker:
        with pytest.raises(TooLarge, match="request"):
            await gateway.request(INGEST_AUDIT, largest, headers={"A": "b"})
        with pytest.raises(TooLarge, match="request less"):
            await gateway.request(INGEST_AUDIT, largest)
        # The server closes a connection that sends it a message above the limit.
        assert not gateway.client.stats["reconnects"]
        assert not broker.link.client.stats["reconnects"]
    assert not gateway.client._resp_map, "no request is remembered that was not sent"


async def test_an_error_that_nothing_handles_is_counted(servers: Servers, work: Work) -> None:
    count = metrics.FAILURES.labels("unhandled", "ZeroDivisionError")._value
    before = count.get()
    async with running(servers, work):
        asyncio.get_running_loop().call_soon(divmod, 1, 0)
        await eventually(lambda: count.get() == before + 1)


async def test_a_slow_request_does_not_delay_others(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    work.gate = asyncio.Event()
    async with running(servers, work):
        asking = [
            asyncio.create_task(gateway.request(INGEST_AUDIT, ListAudit(offset=number)))
            for number in range(20)
        ]
        await eventually(lambda: work.in_progress == 20)
        work.gate.set()
        assert [reply.total for reply in await asyncio.gather(*asking)] == list(range(20))


async def test_large_requests_wait_until_there_is_memory_for_them(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    work.gate = asyncio.Event()
    # A decoded request takes some 44 MiB.
    large = b'{"unknown":[%b0]}' % (b"[]," * (MIB // 3))
    async with running(servers, work) as broker:
        asking = [
            asyncio.create_task(gateway.client.request(INGEST_AUDIT.subject, large, timeout=120))
            for _ in range(5)
        ]
        (audits,) = (each for each in broker.subscribers if isinstance(each, RequestSubscriber))
        # The third request has left nats-py's queue, and waits for memory.
        subscription = cast("Subscription", audits.subscription)
        await eventually(lambda: subscription.pending_msgs == 2)
        assert work.in_progress == 2
        work.gate.set()
        replies = await asyncio.gather(*asking)
    assert [msgspec.json.decode(reply.data)["total"] for reply in replies] == [0] * 5


async def test_a_request_that_would_take_too_much_memory_is_refused(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    large = b'{"unknown":[%b0]}' % (b"[]," * (4 * MIB // 3))
    async with running(servers, work) as broker:
        answer = await gateway.client.request(INGEST_AUDIT.subject, large, timeout=120)
        assert (answer.headers or {})[ERROR_CODE_HEADER] == TooLarge.code
        assert (await gateway.request(INGEST_AUDIT, ListAudit(offset=7))).total == 7
        assert broker.request_memory.reserved_bytes == 0


async def test_a_message_from_jetstream_is_not_a_request(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    """Such messages are a consumer's, replies of JetStream's API, or without a reply subject."""
    refused = metrics.FAILURES.labels("request", "no_requester")._value
    unasked = metrics.FAILURES.labels("message", InvalidRequest.code)._value
    before = refused.get(), unasked.get()
    async with running(servers, work), connected(servers, User.OPERATOR) as operator:
        js = await operator.js_for(StreamName.EVENTS)
        for subject, group in (
            (INGEST_AUDIT.subject, "ingest"),
            ("$SRV.PING", None),
            (ping_subject(User.INGEST), None),
        ):
            to = ConsumerConfig(deliver_subject=subject, deliver_group=group)
            await js.add_consumer(StreamName.EVENTS, to.evolve(ack_policy=AckPolicy.NONE))
        await operator.publish("hogsend.events.x", b"{}", {})
        info = f"$JS.API.STREAM.INFO.{StreamName.EVENTS}"
        await operator.client.publish(info, b"", reply=INGEST_AUDIT.subject)
        await operator.client.publish(INGEST_AUDIT.subject, b"{}")
        await eventually(lambda: (refused.get(), unasked.get()) == (before[0] + 3, before[1] + 2))
        assert work.in_progress == 0
        assert (await gateway.request(INGEST_AUDIT, ListAudit(offset=7))).total == 7


async def test_a_stopping_service_replies_to_requests_in_progress_and_accepts_no_others(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    work.gate = asyncio.Event()
    async with running(servers, work) as broker:
        asking = [
            asyncio.create_task(gateway.request(INGEST_AUDIT, ListAudit(offset=number)))
            for number in range(100)
        ]
        await eventually(lambda: work.in_progress > 0)
        asyncio.get_running_loop().call_later(0.2, work.gate.set)
    assert [reply.total for reply in await asyncio.gather(*asking)] == list(range(100))
    assert not broker.link.connected
    with pytest.raises(Unavailable):
        await gateway.request(INGEST_AUDIT, ListAudit(), deadline=2)


async def test_discovery_lists_and_counts_every_endpoint(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    async with running(servers, work), connected(servers, User.OPERATOR) as operator:
        for action in ("missing", None, "missing"):
            try:
                await gateway.request(INGEST_AUDIT, ListAudit(action=action))
            except NotFound:
                continue

        async def srv(subject: str) -> dict[str, Any]:
            answer = await operator.client.request(subject, b"", timeout=PATIENCE_SECONDS)
            document: dict[str, Any] = msgspec.json.decode(answer.data)
            return document

        ping = await srv("$SRV.PING.hogsend-ingest")
        assert ping["type"] == "io.nats.micro.v1.ping_response"
        info = await srv(f"$SRV.INFO.hogsend-ingest.{ping['id']}")
        stats = await srv("$SRV.STATS")
    assert info["endpoints"] == [
        {
            "name": "audit",
            "subject": INGEST_AUDIT.subject,
            "queue_group": "ingest",
            "metadata": {"summary": INGEST_AUDIT.summary},
        }
    ]
    (counted,) = stats["endpoints"]
    assert (counted["num_requests"], counted["num_errors"]) == (3, 2)
    assert counted["last_error"] == "not_found:there is none"
    spent = counted["processing_time"]
    assert spent > 0
    assert counted["average_processing_time"] == spent // 3


async def test_the_gateway_reads_the_activity_of_every_process_and_other_users_may_not(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    async with (
        running(servers, work) as first,
        running(servers, work) as second,
        connected(servers, User.SUBSCRIBER) as other,
    ):

        async def have_both_replied() -> bool:
            replies = await request_many(gateway, ACTIVITY_SUBJECT, seconds=0.2)
            stats = [msgspec.json.decode(answer, type=Stats) for answer in replies]
            assert all(each.data == Activity() for each in stats)
            return {each.id for each in stats} == {first.instance, second.instance}

        await eventually(have_both_replied)
        with pytest.raises(Forbidden):
            await request_many(other, ACTIVITY_SUBJECT, seconds=60)
    assert await request_many(gateway, ACTIVITY_SUBJECT, seconds=0.1) == []


async def test_messages_are_batched_and_a_single_message_is_delivered_at_once(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    async with running(servers, work):
        await send(gateway, b"lone")
        await eventually(lambda: work.batches == [[b"lone"]])
        work.gate = asyncio.Event()
        # Messages that are sent together could be delivered as one batch.
        for batches in (2, 3):
            await send(gateway, b"busy")
            await eventually(more_than(batches - 1, work.batches))
        for start in range(0, 1000, 100):
            numbers = range(start, start + 100)
            await asyncio.gather(*(send(gateway, b"%d" % number) for number in numbers))
        work.gate.set()
        await eventually(lambda: sum(map(len, work.batches)) == 1003)
        await eventually(lambda: _is_queue_empty(servers))
    assert max(map(len, work.batches)) == 500


async def test_messages_that_arrive_during_a_small_batch_are_the_next_batch(
    servers: Servers, work: Work, gateway: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PARTIAL_BATCH_SECONDS", 60)
    work.gate = asyncio.Event()
    async with running(servers, work):
        await send(gateway, b"1")
        await eventually(lambda: work.in_progress == 1)
        await send(gateway, b"2", b"3", b"4")
        work.gate.set()
        await eventually(lambda: _is_queue_empty(servers))
    assert work.batches == [[b"1"], [b"2", b"3", b"4"]]


async def test_a_backlog_is_processed_by_all_workers(
    servers: Servers, work: Work, gateway: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PARTIAL_BATCH_SECONDS", 60)
    async with running(servers, Work()):
        pass
    await asyncio.gather(*(send(gateway, b"%d" % number) for number in range(1000)))
    work.gate = asyncio.Event()
    async with running(servers, work):
        await eventually(lambda: work.in_progress == 2)
        work.gate.set()
        await eventually(lambda: _is_queue_empty(servers))
    assert [len(batch) for batch in work.batches] == [500, 500]


async def test_a_poison_message_does_not_block_its_neighbours(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    work.gate = asyncio.Event()
    async with running(servers, work):
        # Both workers are busy, so the next messages are delivered as one batch.
        for busy in (1, 2):
            await send(gateway, b"%d" % busy)
            await eventually(more_than(busy - 1, work.batches))
        await send(gateway, b"3", b"poison", b"4", b"5")
        work.gate.set()
        together = [b"3", b"poison", b"4", b"5"]
        await eventually(lambda: together in work.batches)
        await eventually(lambda: [b"5"] in work.batches)
        # The poison message may have been redelivered by now.
        alone = work.batches[work.batches.index(together) + 1 :]
        assert alone[:4] == [[b"3"], [b"poison"], [b"4"], [b"5"]]
    assert await queued(servers) == 1


async def test_a_stopping_service_naks_unacknowledged_messages(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    work.gate = asyncio.Event()
    async with running(servers, work):
        await send(gateway, b"1")
        await eventually(lambda: work.in_progress == 1)
    other = Work()
    async with running(servers, other):
        # They are redelivered far sooner than after JetStream's ack wait of 30 seconds.
        await eventually(lambda: other.batches == [[b"1"]])


async def test_a_deleted_consumer_and_a_deleted_stream_are_recreated(
    servers: Servers, work: Work, gateway: Connection
) -> None:
    async with running(servers, work), connected(servers, User.OPERATOR) as operator:
        await send(gateway, b"1")
        await eventually(lambda: [b"1"] in work.batches)
        await operator.js.delete_consumer(StreamName.WEBHOOKS, "ingest")
        await send(gateway, b"2")
        await eventually(lambda: [b"2"] in work.batches)
        await operator.js.delete_stream(StreamName.WEBHOOKS)

        async def sent() -> bool:
            try:
                await send(gateway, b"3")
            except Unavailable:
                return False
            return True

        await eventually(sent)
        await eventually(lambda: any(b"3" in batch for batch in work.batches))


async def test_a_consumer_without_auto_start_runs_when_run_is_called(
    servers: Servers, gateway: Connection
) -> None:
    received: list[Msg] = []
    dormant = ServiceRouter()

    @dormant.batches(StreamName.WEBHOOKS, INGEST_CONSUMER, auto_start=False)
    async def receive(messages: list[Msg]) -> None:
        received.extend(messages)

    broker = ServiceBroker(User.INGEST, Connection(User.INGEST, servers.nats_url(User.INGEST)))
    own = broker.include(dormant)
    async with started(service_app(broker)), connected(servers, User.OPERATOR) as operator:
        await send(gateway, b"1")
        with pytest.raises(NotFoundError):
            await operator.js.consumer_info(StreamName.WEBHOOKS, "ingest")
        consuming = asyncio.create_task(own.batch_subscriber(receive).run(heartbeat=0.1))
        await eventually(lambda: len(received) == 1)
        # The message stays in flight after the handler has returned, until `run` ends.
        info = await operator.js.consumer_info(StreamName.WEBHOOKS, "ingest")
        assert info.num_ack_pending == 1
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        again = asyncio.create_task(own.batch_subscriber(receive).run(heartbeat=0.1))
        await eventually(lambda: len(received) == 2)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


async def _is_queue_empty(servers: Servers) -> bool:
    return await queued(servers) == 0
