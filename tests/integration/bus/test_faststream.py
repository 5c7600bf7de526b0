"""FastStream apps of other people's services: events and credential changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
import pytest
from faststream import FastStream
from faststream.exceptions import NackMessage, SkipMessage, StopConsume
from faststream.nats import JStream, NatsBroker, NatsRouter, PullSub, TestNatsBroker
from faststream.nats.annotations import NatsMessage
from faststream.security import SASLPlaintext
from nats.aio.msg import Msg

from hogsend import CannotDecode, ConsumerConflict, CredentialChanged, Event, TypedEvent
from hogsend.client.subscriptions import events_consumer
from hogsend.contract import subjects
from hogsend.contract.headers import message_headers
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.faststream import HogsendBroker, subscriber
from hogsend.faststream.subscriber import ConsumedMessage
from hogsend.service import streams
from hogsend.transport.connection import Connection
from hogsend.transport.foreign_consumer import ensure_consumer
from hogsend.transport.publisher import IN_FLIGHT
from tests.integration.harness import connected, consumers_of_others
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

SOON = PullSub(timeout=0.2)
"""Stops as soon as the app does; FastStream's own pull requests last five seconds."""
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Plan(msgspec.Struct):
    plan: str


def event(id: str, name: str = "signed_up", plan: object = "pro") -> Event:
    return Event(
        id=id,
        event=name,
        source="posthog",
        user_id="u_42",
        contact_key="u_42",
        occurred_at=NOW,
        received_at=NOW,
        properties={"plan": plan},
    )


async def announce(ingest: Connection, event: Event) -> None:
    headers = message_headers(id=event.id, source="ingest", type="event", time=NOW)
    await ingest.publish(subjects.event(event.event), msgspec.json.encode(event), headers)


@pytest.fixture
async def ingest(servers: Servers) -> AsyncIterator[Connection]:
    async with consumers_of_others(servers), connected(servers, User.INGEST) as ingest:
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

    await announce(ingest, event("1"))
    await announce(ingest, event("other", "elsewhere"))
    async with running(broker):
        await announce(ingest, event("2"))
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
        return [one.name for one in await ingest.js.consumers_info(StreamName.EVENTS)]

    broker, got = broker_of(servers), list[Event]()

    @broker.events("signed_up", durable="mailer")
    async def kept(event: Event) -> None:
        got.append(event)

    @broker.events("signed_up")
    async def passing(event: Event) -> None:
        got.append(event)

    async with running(broker):
        await announce(ingest, event("1"))
        await eventually(lambda: len(got) == 2)
        assert len(await consumers()) == 2
    assert await consumers() == ["mailer"]


async def test_faststreams_own_pull_subscribers_work_on_it(
    servers: Servers, ingest: Connection
) -> None:
    broker, router, got = broker_of(servers), NatsRouter(), list[Event]()

    @broker.subscriber("hogsend.events.*", stream="EVENTS", durable="own", pull_sub=SOON)
    async def one(event: Event) -> None:
        got.append(event)

    @router.subscriber(
        "hogsend.events.signed_up",
        stream="EVENTS",
        durable="own-batch",
        pull_sub=PullSub(batch_size=5, batch=True, timeout=0.2),
    )
    async def several(event: list[Event]) -> None:
        got.extend(event)

    broker.include_router(router)
    async with running(broker):
        await announce(ingest, event("1"))
        await eventually(lambda: got == [event("1"), event("1")])


async def test_faststreams_own_subscribers_use_the_users_inbox_and_create_no_stream(
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
        pull_sub=SOON,
        inbox_prefix=b"_INBOX_subscriber.",
    )
    async def one(message: NatsMessage) -> None:
        got.append(message.body)

    async with FastStream(broker, logger=None):
        await announce(ingest, event("1"))
        await eventually(lambda: got)


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
                pytest.fail("it has started")
        left = await ingest.js.consumers_info(StreamName.EVENTS)
        assert [one.name for one in left] == ["mailer"]
        assert not other.link.connected
        for id, name in (("1", "invoice.paid"), ("2", "page_viewed"), ("3", "signed_up")):
            await announce(ingest, event(id, name))
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
    # anyio's scopes cancel what they hold again and again.
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
        await js.delete_consumer(StreamName.EVENTS, "mailer")
        await ensure_consumer(another, StreamName.EVENTS, events_consumer("page_viewed", "mailer"))
        await eventually(lambda: len(refusals()) == 2)
        # The task that reads is the first one still: FastStream has not started another.
        [reading] = broker.subscribers
        assert isinstance(reading, subscriber.ConsumerSubscriber)
        assert len(reading.tasks) == 1
        await js.delete_consumer(StreamName.EVENTS, "mailer")
        await announce(ingest, event("1"))
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
    give_back = Msg.nak

    async def give_back_soon(message: Msg, delay: float | None = None) -> None:
        delays.append(delay)
        await give_back(message, 0.1)

    monkeypatch.setattr(Msg, "nak", give_back_soon)

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        seen.append(event.id)
        if len(seen) == 1:
            raise error

    async with running(broker):
        await announce(ingest, event("1"))
        await eventually(lambda: seen == ["1", "1"])
    # Once, and not as soon as what a stop gives back.
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

    await announce(ingest, event("1"))
    await announce(ingest, event("2"))
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

    # Here: FastStream keeps subscribers in no order.
    [welcoming] = broker.subscribers

    @broker.events("invoice.paid", durable="biller")
    async def bill(event: Event) -> None:
        got.append(event.id)

    async with running(broker):
        await announce(ingest, event("1"))
        await eventually(lambda: not welcoming.running)
        await announce(ingest, event("2"))
        await announce(ingest, event("3", "invoice.paid"))
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
    await announce(ingest, event("1"))
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
            await announce(ingest, event("1"))
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
    began = asyncio.Event()
    broker = broker_of(servers)
    broker.config.broker_config.graceful_timeout = 0.1

    @broker.events("signed_up", durable="mailer")
    async def hang(event: Event) -> None:
        began.set()
        await asyncio.Event().wait()

    async with running(broker):
        await announce(ingest, event("1"))
        await began.wait()
    other, got = broker_of(servers), list[str]()

    @other.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    async with running(other):
        # Far sooner than JetStream's ack_wait of 30 seconds.
        await eventually(lambda: got == ["1"])


async def test_a_deleted_consumer_is_recreated(servers: Servers, ingest: Connection) -> None:
    broker, got = broker_of(servers), list[str]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event.id)

    async with running(broker), connected(servers, User.OPERATOR) as operator:
        await announce(ingest, event("1"))
        await eventually(lambda: got == ["1"])
        js = await operator.js_for(StreamName.EVENTS)
        await js.delete_consumer(StreamName.EVENTS, "mailer")
        await announce(ingest, event("2"))
        await eventually(lambda: "2" in got)


async def test_credential_changes_start_with_the_current_state(
    servers: Servers, ingest: Connection
) -> None:
    async with (
        connected(servers, User.CREDENTIALS) as credentials,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(credentials.js, User.CREDENTIALS)
        await change(credentials, 7)
        broker, got = broker_of(servers), list[int]()

        @broker.credential_changes("posthog")
        async def changed(change: CredentialChanged) -> None:
            got.append(change.version)
            if change.version == 9:
                raise StopConsume

        async def nobody_follows() -> bool:
            info = await operator.js.stream_info(StreamName.CREDENTIALS)
            return not info.state.consumer_count

        async with running(broker):
            await eventually(lambda: got == [7])
            await change(credentials, 8)
            await eventually(lambda: got == [7, 8])
            assert not await nobody_follows()
            await change(credentials, 9)
            await eventually(nobody_follows)
        assert got == [7, 8, 9]


async def test_a_lost_consumer_of_credential_changes_is_recreated(
    servers: Servers, ingest: Connection
) -> None:
    async with (
        connected(servers, User.CREDENTIALS) as credentials,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(credentials.js, User.CREDENTIALS)
        await change(credentials, 7)
        broker, got = broker_of(servers), list[int]()

        @broker.credential_changes("posthog")
        async def changed(change: CredentialChanged) -> None:
            got.append(change.version)

        async with running(broker):
            await eventually(lambda: got == [7])
            # As a restarted server does, which kept it in memory.
            (mine,) = await operator.js.consumers_info(StreamName.CREDENTIALS)
            assert mine.config.mem_storage
            js = await operator.js_for(StreamName.CREDENTIALS)
            await js.delete_consumer(StreamName.CREDENTIALS, mine.name)
            await change(credentials, 8)
            await eventually(lambda: 8 in got)


def credential(version: int) -> CredentialChanged:
    return CredentialChanged(
        provider="posthog",
        version=version,
        change="stored",
        kinds=["oauth"],
        changed_kinds=["oauth"],
        scopes=[],
        expires_at=None,
        changed_at=NOW,
    )


async def change(credentials: Connection, version: int) -> None:
    headers = message_headers(
        id=f"c:{version}", source="credentials", type="credential.changed", time=NOW
    )
    subject = subjects.credential_changed("posthog")
    await credentials.publish(subject, msgspec.json.encode(credential(version)), headers)


async def test_a_handler_is_called_without_a_server_by_faststreams_test_broker() -> None:
    broker, got = HogsendBroker("nats://nowhere:4222", logger=None), list[Event]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event)

    async with TestNatsBroker(broker):
        await broker.publish(event("1"), subjects.event("signed_up"))
    assert got == [event("1")]


class Exact(msgspec.Struct):
    plan: msgspec.Raw
    price: Decimal


async def test_a_typed_event_is_decoded_by_the_library() -> None:
    broker = HogsendBroker("nats://nowhere:4222", logger=None)
    got = list[TypedEvent[Exact]]()

    @broker.events("signed_up")
    async def welcome(event: TypedEvent[Exact]) -> None:
        got.append(event)
        if event.id == "1":
            # In the midst of another one.
            await send("2", b'"free"')

    async def send(id: str, plan: bytes) -> None:
        body = msgspec.json.encode(event(id, plan="#"))
        exact = body.replace(b'"plan":"#"', b'"price":1.10,"plan":' + plan)
        await broker.publish(exact, subjects.event("signed_up"))

    async with TestNatsBroker(broker):
        await send("1", b'{"of": 1e400}')
    read = [(one.id, bytes(one.properties.plan), str(one.properties.price)) for one in got]
    assert read == [("1", b'{"of": 1e400}', "1.10"), ("2", b'"free"', "1.10")]


async def test_the_test_broker_calls_handlers_of_several_names_and_of_undecodable_events() -> None:
    broker = HogsendBroker("nats://nowhere:4222", logger=None)
    got, undecodable, versions = list[str](), list[str](), list[int]()

    @broker.events(
        ["signed_up", "plan.changed"],
        durable="mailer",
        undecodable=lambda error: undecodable.append(f"{error.id} {error.path}"),
    )
    async def welcome(event: TypedEvent[Plan]) -> None:
        got.append(event.id)
        if event.id == "2":
            raise ValueError("the handler's")

    @broker.credential_changes("posthog")
    async def changed(change: CredentialChanged) -> None:
        versions.append(change.version)

    async with TestNatsBroker(broker):
        for sent in (event("1"), event("3", plan=3), event("4", "elsewhere")):
            await broker.publish(sent, subjects.event(sent.event))
        with pytest.raises(ValueError, match="the handler's"):
            await broker.publish(event("2", "plan.changed"), subjects.event("plan.changed"))
        for version in (7, 7, 8):
            await broker.publish(credential(version), subjects.credential_changed("posthog"))
    assert (got, undecodable) == (["1", "2"], ["3 properties.plan"])
    # None twice, as on a server.
    assert versions == [7, 8]


@pytest.mark.parametrize("is_above", [True, False])
async def test_a_handler_may_have_other_decorators_above_and_below(is_above: bool) -> None:
    broker = HogsendBroker("nats://nowhere:4222", logger=None)
    published, undecodable = list[str](), list[str]()
    events = broker.events("signed_up", undecodable=lambda error: undecodable.append(error.id))
    publisher = broker.publisher("welcomed")

    async def welcome(event: TypedEvent[Plan]) -> str:
        return event.id

    handler: Any = publisher(events(welcome)) if is_above else events(publisher(welcome))

    @broker.subscriber("welcomed")
    async def welcomed(id: str) -> None:
        published.append(id)

    async with TestNatsBroker(broker):
        for sent in (event("1"), event("2", plan=2)):
            await broker.publish(sent, subjects.event(sent.event))
        handler.mock.assert_called_once()
    assert (published, undecodable) == (["1"], ["2"])


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

    async def life(number: str) -> None:
        report = broker.hogsend.engagement.report
        async with running(broker):
            await eventually(lambda: got[-1:] == [number])
            async with asyncio.timeout(PATIENCE_SECONDS):
                # So many that the last one waits for room.
                await asyncio.gather(
                    *(
                        report("email.opened", {"userId": "u_42"}, id=f"{number}-{one}")
                        for one in range(IN_FLIGHT + 1)
                    )
                )

    async def nobody_asks() -> bool:
        info = await ingest.js.consumer_info(StreamName.EVENTS, "mailer")
        return not info.num_waiting

    await announce(ingest, event("1"))
    await life("1")
    # An event that comes before the server has read of the end is delivered into it.
    await eventually(nobody_asks)
    await announce(ingest, event("2"))
    await life("2")
    await eventually(nobody_asks)
    await announce(ingest, event("3"))
    await asyncio.to_thread(asyncio.run, life("3"))
    info = await ingest.js.stream_info(StreamName.ENGAGEMENT)
    assert info.state.messages == 3 * (IN_FLIGHT + 1)
    assert len(broker.link.client.server_pool) == 1


@pytest.mark.parametrize("is_told", [True, False])
async def test_an_undecodable_event_is_not_passed_to_a_typed_handler(
    servers: Servers,
    ingest: Connection,
    is_told: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, got, undecodable = broker_of(servers), list[TypedEvent[Plan]](), list[str]()

    async def keep(error: CannotDecode) -> None:
        undecodable.append(f"{error.id} {error.path}")
        if len(undecodable) == 1:
            raise RuntimeError("the app's own fault")

    @broker.events("signed_up", durable="mailer", undecodable=keep if is_told else None)
    async def welcome(event: TypedEvent[Plan]) -> None:
        got.append(event)

    for id, plan in (("1", 1), ("2", "pro"), ("3", None), ("4", "free")):
        await announce(ingest, event(id, plan=plan))
    async with running(broker):
        await eventually(lambda: len(got) == 2)
        assert [(one.id, one.properties) for one in got] == [
            ("2", Plan("pro")),
            ("4", Plan("free")),
        ]
        await eventually(lambda: "1 is no Plan" in caplog.text)
        # The one that failed, and both without anybody to tell, come again.
        left = {True: 1, False: 2}[is_told]

        async def are_left() -> bool:
            return await unacknowledged(servers) == left

        await eventually(are_left)
        assert undecodable == (["1 properties.plan", "3 properties.plan"] if is_told else [])
