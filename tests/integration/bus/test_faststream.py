"""FastStream apps of external services: events and credential changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import pytest
from faststream import AckPolicy, FastStream
from faststream.exceptions import NackMessage, SkipMessage, StopConsume
from faststream.nats import JStream, NatsBroker, NatsRouter, PullSub
from faststream.nats.annotations import NatsMessage
from faststream.security import SASLPlaintext
from nats.aio.msg import Msg

from hogsend import CannotDecode, ConsumerConflict, CredentialChanged, Event, TypedEvent
from hogsend.client.subscriptions import events_consumer
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.faststream import HogsendBroker, subscriber
from hogsend.faststream.subscriber import ConsumedMessage
from hogsend.service import streams
from hogsend.transport.connection import Connection
from hogsend.transport.foreign_consumer import ensure_consumer
from hogsend.transport.publisher import IN_FLIGHT
from tests.integration.bus.publishing import publish_change, publish_event
from tests.integration.harness import connected, consumer_api
from tests.messages import Plan, event
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")
SHORT_PULL = PullSub(timeout=0.2)
"""Short pull requests, so that an app stops soon; FastStream's default is five seconds."""


@pytest.fixture
async def ingest(servers: Servers) -> AsyncIterator[Connection]:
    async with consumer_api(servers), connected(servers, User.INGEST) as ingest:
        yield ingest


@asynccontextmanager
async def running(broker: HogsendBroker) -> AsyncIterator[None]:
    async with FastStream(broker, logger=None):
        yield


def broker_of(servers: Servers) -> HogsendBroker:
    return HogsendBroker(servers.nats_url(User.SUBSCRIBER), logger=None)


async def test_a_handler_gets_typed_events_of_its_name_once(
    servers: Servers, ingest: Connection
) -> None:
    broker, got = broker_of(servers), list[Event]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event)

    await publish_event(ingest, event("1"))
    await publish_event(ingest, event("other", "elsewhere"))
    async with running(broker):
        await publish_event(ingest, event("2"))
        await eventually(lambda: len(got) == 2)
        assert got == [event("1"), event("2")]

        async def acknowledged() -> bool:
            info = await ingest.js.stream_info(StreamName.EVENTS)
            return info.state.messages == 3 and not await unacknowledged(servers)

        await eventually(acknowledged)


async def test_a_stopped_app_leaves_no_ephemeral_consumer(
    servers: Servers, ingest: Connection
) -> None:
    async def consumers() -> list[str]:
        infos = await ingest.js.consumers_info(StreamName.EVENTS)
        return [info.name for info in infos]

    broker, got = broker_of(servers), list[Event]()

    @broker.events("signed_up", durable="mailer")
    async def durable(event: Event) -> None:
        got.append(event)

    @broker.events("signed_up")
    async def ephemeral(event: Event) -> None:
        got.append(event)

    async with running(broker):
        await publish_event(ingest, event("1"))
        await eventually(lambda: len(got) == 2)
        assert len(await consumers()) == 2
    assert await consumers() == ["mailer"]


async def test_pull_subscribers_of_faststream_work_on_the_broker(
    servers: Servers, ingest: Connection
) -> None:
    broker, router, got = broker_of(servers), NatsRouter(), list[Event]()

    @broker.subscriber("hogsend.events.*", stream="EVENTS", durable="own", pull_sub=SHORT_PULL)
    async def single(event: Event) -> None:
        got.append(event)

    @router.subscriber(
        "hogsend.events.signed_up",
        stream="EVENTS",
        durable="own-batch",
        pull_sub=PullSub(batch_size=5, batch=True, timeout=0.2),
    )
    async def batch(event: list[Event]) -> None:
        got.extend(event)

    broker.include_router(router)
    async with running(broker):
        await publish_event(ingest, event("1"))
        await eventually(lambda: got == [event("1"), event("1")])


async def test_faststreams_own_broker_reads_events_with_the_users_inbox_and_an_undeclared_stream(
    servers: Servers, ingest: Connection
) -> None:
    url = urlsplit(servers.nats_url(User.SUBSCRIBER))
    broker = NatsBroker(
        f"nats://{url.hostname}:{url.port}",
        security=SASLPlaintext(username=url.username or "", password=url.password or ""),
        inbox_prefix="_INBOX_subscriber",
        logger=None,
    )
    got = list[bytes]()

    @broker.subscriber(
        "hogsend.events.*",
        stream=JStream("EVENTS", declare=False),
        durable="bare",
        pull_sub=SHORT_PULL,
        inbox_prefix=b"_INBOX_subscriber.",
    )
    async def receive(message: NatsMessage) -> None:
        got.append(message.body)

    async with FastStream(broker, logger=None):
        await publish_event(ingest, event("1"))
        await eventually(lambda: got)


async def test_a_subscriber_of_faststream_that_naks_on_errors_receives_a_failed_event_again(
    servers: Servers, ingest: Connection
) -> None:
    broker, got = broker_of(servers), list[str]()

    @broker.subscriber(
        "hogsend.events.*",
        stream="EVENTS",
        durable="own",
        pull_sub=SHORT_PULL,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def fail_once(event: Event) -> None:
        got.append(event.id)
        if len(got) == 1:
            raise ValueError

    async with running(broker):
        await publish_event(ingest, event("1"))
        await eventually(lambda: got == ["1", "1"])


async def test_an_app_does_not_start_on_a_durable_that_reads_other_events(
    servers: Servers, ingest: Connection
) -> None:
    mailer, got = broker_of(servers), list[str]()

    @mailer.events(["signed_up", "invoice.paid"], durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    async with running(mailer):
        other = broker_of(servers)

        @other.events("page_viewed")
        async def watch(event: Event) -> None: ...

        @other.events("page_viewed", durable="mailer")
        async def count(event: Event) -> None: ...

        with pytest.raises(ConsumerConflict, match="page_viewed"):
            async with running(other):
                pytest.fail("the app has started")
        remaining = await ingest.js.consumers_info(StreamName.EVENTS)
        assert [info.name for info in remaining] == ["mailer"]
        assert not other.link.connected
        for id, name in (("1", "invoice.paid"), ("2", "page_viewed"), ("3", "signed_up")):
            await publish_event(ingest, event(id, name))
        await eventually(lambda: got == ["1", "3"])


@pytest.mark.parametrize("by_scope", [False, True])
async def test_a_cancelled_start_leaves_no_consumer(
    servers: Servers, ingest: Connection, monkeypatch: pytest.MonkeyPatch, by_scope: bool
) -> None:
    broker, nearly_started = broker_of(servers), asyncio.Event()

    @broker.events("signed_up")
    async def welcome(event: Event) -> None: ...

    async def never_ends(_broker: HogsendBroker) -> None:
        nearly_started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(HogsendBroker, "_check_subscriptions", never_ends)
    scope = anyio.CancelScope()

    async def start() -> None:
        with scope:
            await broker.start()

    starting = asyncio.create_task(start())
    await nearly_started.wait()
    assert len(await ingest.js.consumers_info(StreamName.EVENTS)) == 1
    # A scope of anyio cancels its task repeatedly, a task's `cancel` only once.
    (scope if by_scope else starting).cancel()
    await asyncio.wait({starting})
    assert starting.cancelled() is not by_scope
    assert not await ingest.js.consumers_info(StreamName.EVENTS)
    assert not broker.link.connected


async def test_a_handler_whose_durable_conflicts_waits_until_the_conflict_ends(
    servers: Servers,
    ingest: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(subscriber, "RETRY_SECONDS", 0.5)
    broker, got = broker_of(servers), list[str]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    def refusals() -> list[str]:
        return [
            message
            for message in caplog.messages
            if "EVENTS cannot be read: the durable" in message
        ]

    async with (
        running(broker),
        connected(servers, User.OPERATOR) as operator,
        connected(servers, User.SUBSCRIBER) as another,
    ):
        js = await operator.js_for(StreamName.EVENTS)

        async def take_over() -> bool:
            # The handler's reader creates a deleted consumer again, and may do so first.
            await js.delete_consumer(StreamName.EVENTS, "mailer")
            config = events_consumer("page_viewed", "mailer")
            try:
                await ensure_consumer(another, StreamName.EVENTS, config)
            except ConsumerConflict:
                return False
            return True

        await eventually(take_over)
        await eventually(lambda: len(refusals()) == 2)
        # The reading task is still the first one: FastStream has not started another.
        [reading] = broker.subscribers
        assert isinstance(reading, subscriber.ConsumerSubscriber)
        assert len(reading.tasks) == 1
        await js.delete_consumer(StreamName.EVENTS, "mailer")
        await publish_event(ingest, event("1"))
        await eventually(lambda: got == ["1"])


async def unacknowledged(servers: Servers) -> int:
    async with connected(servers, User.OPERATOR) as operator:
        info = await operator.js.consumer_info(StreamName.EVENTS, "mailer")
        return int(info.num_ack_pending or 0)


@pytest.mark.parametrize("error", [ValueError("first time"), SkipMessage(), NackMessage()])
async def test_an_event_whose_handler_failed_is_redelivered(
    servers: Servers, ingest: Connection, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    broker, seen, delays = broker_of(servers), list[str](), list[object]()
    nak = Msg.nak

    async def nak_with_short_delay(message: Msg, delay: float | None = None) -> None:
        delays.append(delay)
        await nak(message, 0.1)

    monkeypatch.setattr(Msg, "nak", nak_with_short_delay)

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        seen.append(event.id)
        if len(seen) == 1:
            raise error

    async with running(broker):
        await publish_event(ingest, event("1"))
        await eventually(lambda: seen == ["1", "1"])
    # The event was nak'ed once, with a delay that a stop's nak does not have.
    assert delays == [subscriber.RETRY_SECONDS]


async def test_a_handler_that_awaits_a_cancelled_task_has_failed_and_others_continue(
    servers: Servers, ingest: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(ConsumedMessage.nack, "__defaults__", (0.1,))
    broker, got = broker_of(servers), list[str]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)
        if len(got) == 1:
            task = asyncio.create_task(asyncio.sleep(0))
            task.cancel()
            await task

    await publish_event(ingest, event("1"))
    await publish_event(ingest, event("2"))
    async with running(broker):
        await eventually(lambda: sorted(got) == ["1", "1", "2"])


async def test_a_handler_can_stop_its_subscriber(
    servers: Servers, ingest: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConsumedMessage.nack, "__defaults__", (0.1,))
    broker, got = broker_of(servers), list[str]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)
        raise StopConsume

    # This is read before the second subscriber exists, because FastStream's set has no order.
    [welcoming] = broker.subscribers

    @broker.events("invoice.paid", durable="biller")
    async def bill(event: Event) -> None:
        got.append(event.id)

    async with running(broker):
        await publish_event(ingest, event("1"))
        await eventually(lambda: not welcoming.running)
        await publish_event(ingest, event("2"))
        await publish_event(ingest, event("3", "invoice.paid"))
        await eventually(lambda: got == ["1", "3"])
        assert await unacknowledged(servers) <= 1
    replica = broker_of(servers)

    @replica.events("signed_up", durable="mailer")
    async def welcome_too(event: Event) -> None:
        got.append(event.id)

    async with running(replica):
        await eventually(lambda: sorted(got[2:]) == ["1", "2"])


@pytest.mark.parametrize("durable", ["mailer", None])
async def test_a_handler_can_stop_the_app(
    servers: Servers, ingest: Connection, durable: str | None
) -> None:
    broker, started = broker_of(servers), asyncio.Event()

    @broker.events("signed_up", durable=durable)
    async def welcome(event: Event) -> None:
        raise SystemExit

    app = FastStream(broker, logger=None, after_startup=[started.set])
    running = asyncio.create_task(app.run())
    await started.wait()
    await publish_event(ingest, event("1"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await running


async def test_a_broker_that_never_started_can_be_stopped(servers: Servers) -> None:
    await broker_of(servers).stop()


async def test_no_handler_continues_after_the_scope_of_its_broker_is_cancelled(
    servers: Servers, ingest: Connection
) -> None:
    broker, has_ended = broker_of(servers), asyncio.Event()
    broker.config.broker_config.graceful_timeout = 0.1

    with anyio.CancelScope() as scope:

        @broker.events("signed_up", durable="slow")
        async def welcome(event: Event) -> None:
            scope.cancel()
            try:
                await asyncio.Event().wait()
            finally:
                has_ended.set()

        async with broker:
            await broker.start()
            await publish_event(ingest, event("1"))
            await asyncio.Event().wait()
    assert has_ended.is_set()
    assert broker.link.closed


async def test_a_subscriber_that_cannot_stop_leaves_no_connection(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = broker_of(servers)

    @broker.events("signed_up")
    async def welcome(event: Event) -> None: ...

    async def fail(_subscriber: subscriber.ConsumerSubscriber) -> None:
        raise OSError

    await broker.start()
    with monkeypatch.context() as patched:
        patched.setattr(subscriber.ConsumerSubscriber, "stop", fail)
        with pytest.raises(ExceptionGroup):
            await broker.stop()
    assert broker.link.closed
    await broker.stop()


async def test_an_event_not_handled_before_a_stop_goes_to_another_replica(
    servers: Servers, ingest: Connection
) -> None:
    started = asyncio.Event()
    broker = broker_of(servers)
    broker.config.broker_config.graceful_timeout = 0.1

    @broker.events("signed_up", durable="mailer")
    async def hang(event: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    async with running(broker):
        await publish_event(ingest, event("1"))
        await started.wait()
    other, got = broker_of(servers), list[str]()

    @other.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    async with running(other):
        # The event arrives far sooner than after JetStream's ack wait of 30 seconds.
        await eventually(lambda: got == ["1"])


async def test_a_deleted_consumer_is_recreated(servers: Servers, ingest: Connection) -> None:
    broker, got = broker_of(servers), list[str]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    async with running(broker), connected(servers, User.OPERATOR) as operator:
        await publish_event(ingest, event("1"))
        await eventually(lambda: got == ["1"])
        js = await operator.js_for(StreamName.EVENTS)
        await js.delete_consumer(StreamName.EVENTS, "mailer")
        await publish_event(ingest, event("2"))
        await eventually(lambda: "2" in got)


async def test_credential_changes_start_with_the_current_state(
    servers: Servers, ingest: Connection
) -> None:
    async with (
        connected(servers, User.CREDENTIALS) as credentials,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(credentials.js, User.CREDENTIALS)
        await publish_change(credentials, 7)
        broker, got = broker_of(servers), list[int]()

        @broker.credential_changes("posthog")
        async def changed(change: CredentialChanged) -> None:
            got.append(change.version)
            if change.version == 9:
                raise StopConsume

        async def has_no_consumer() -> bool:
            info = await operator.js.stream_info(StreamName.CREDENTIALS)
            return not info.state.consumer_count

        async with running(broker):
            await eventually(lambda: got == [7])
            await publish_change(credentials, 8)
            await eventually(lambda: got == [7, 8])
            assert not await has_no_consumer()
            await publish_change(credentials, 9)
            await eventually(has_no_consumer)
        assert got == [7, 8, 9]


async def test_a_lost_consumer_of_credential_changes_is_recreated(
    servers: Servers, ingest: Connection
) -> None:
    async with (
        connected(servers, User.CREDENTIALS) as credentials,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(credentials.js, User.CREDENTIALS)
        await publish_change(credentials, 7)
        broker, got = broker_of(servers), list[int]()

        @broker.credential_changes("posthog")
        async def changed(change: CredentialChanged) -> None:
            got.append(change.version)

        async with running(broker):
            await eventually(lambda: got == [7])
            # A server that restarts loses a consumer in memory storage.
            (consumer,) = await operator.js.consumers_info(StreamName.CREDENTIALS)
            assert consumer.config.mem_storage
            js = await operator.js_for(StreamName.CREDENTIALS)
            await js.delete_consumer(StreamName.CREDENTIALS, consumer.name)
            await publish_change(credentials, 8)
            await eventually(lambda: 8 in got)


async def test_the_client_shares_the_connection(servers: Servers, ingest: Connection) -> None:
    broker = HogsendBroker(servers.nats_url(User.APP), logger=None)
    async with running(broker):
        await broker.hogsend.engagement.report("email.opened", {"userId": "u_42"}, id="m-1")
    info = await ingest.js.stream_info(StreamName.ENGAGEMENT)
    assert info.state.messages == 1


async def test_a_stopped_broker_can_start_again_in_another_event_loop(
    servers: Servers, ingest: Connection
) -> None:
    broker, got = HogsendBroker(servers.nats_url(User.APP), logger=None), list[str]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    async def run_once(number: str) -> None:
        report = broker.hogsend.engagement.report
        async with running(broker):
            await eventually(lambda: got[-1:] == [number])
            async with asyncio.timeout(PATIENCE_SECONDS):
                # One more than may be in flight, so the last report waits.
                await asyncio.gather(
                    *(
                        report("email.opened", {"userId": "u_42"}, id=f"{number}-{index}")
                        for index in range(IN_FLIGHT + 1)
                    )
                )

    async def has_no_pull_request() -> bool:
        info = await ingest.js.consumer_info(StreamName.EVENTS, "mailer")
        return not info.num_waiting

    await publish_event(ingest, event("1"))
    await run_once("1")
    # Until the server has processed the disconnect, it would deliver an event to the old request.
    await eventually(has_no_pull_request)
    await publish_event(ingest, event("2"))
    await run_once("2")
    await eventually(has_no_pull_request)
    await publish_event(ingest, event("3"))
    await asyncio.to_thread(asyncio.run, run_once("3"))
    info = await ingest.js.stream_info(StreamName.ENGAGEMENT)
    assert info.state.messages == 3 * (IN_FLIGHT + 1)
    assert len(broker.link.client.server_pool) == 1


@pytest.mark.parametrize("has_callback", [True, False])
async def test_an_undecodable_event_is_not_passed_to_a_typed_handler(
    servers: Servers,
    ingest: Connection,
    has_callback: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, got, undecodable = broker_of(servers), list[TypedEvent[Plan]](), list[str]()

    async def record(error: CannotDecode) -> None:
        undecodable.append(f"{error.id} {error.path}")
        if len(undecodable) == 1:
            raise RuntimeError("the app's own fault")

    @broker.events("signed_up", durable="mailer", undecodable=record if has_callback else None)
    async def welcome(event: TypedEvent[Plan]) -> None:
        got.append(event)

    for id, plan in (("1", 1), ("2", "pro"), ("3", None), ("4", "free")):
        await publish_event(ingest, event(id, plan=plan))
    async with running(broker):
        await eventually(lambda: len(got) == 2)
        assert [(each.id, each.properties) for each in got] == [
            ("2", Plan("pro")),
            ("4", Plan("free")),
        ]
        await eventually(lambda: "1 is no Plan" in caplog.text)
        # Events are redelivered: the one whose callback failed, or both without a callback.
        redelivered = {True: 1, False: 2}[has_callback]

        async def are_unacknowledged() -> bool:
            return await unacknowledged(servers) == redelivered

        await eventually(are_unacknowledged)
        assert undecodable == (["1 properties.plan", "3 properties.plan"] if has_callback else [])
