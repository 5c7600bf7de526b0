"""`Client.events` on a real server: acknowledgement, redelivery, stops and durables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import ConsumerConfig

import hogsend
from hogsend.client import sequential_reader, subscriptions
from hogsend.client.client import Client
from hogsend.client.decoding import CannotDecode
from hogsend.contract import subjects
from hogsend.contract.errors import ConsumerConflict
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport import consumer
from hogsend.transport.connection import Connection
from hogsend.transport.nats_client import MessageHandler
from tests.integration.bus.publishing import announce, two_sides
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

DURABLE = "slow"


class Plan(msgspec.Struct):
    seats: int


@pytest.fixture
def heartbeats(monkeypatch: pytest.MonkeyPatch) -> list[Msg]:
    """The messages of all heartbeats, in order."""
    heartbeats: list[Msg] = []
    in_progress = Msg.in_progress

    async def record(self: Msg) -> None:
        await in_progress(self)
        heartbeats.append(self)

    monkeypatch.setattr(Msg, "in_progress", record)
    return heartbeats


@pytest.fixture
def short_ack_wait(monkeypatch: pytest.MonkeyPatch, heartbeats: list[Msg]) -> list[Msg]:
    """Use an `ack_wait` of five seconds; return the messages of all heartbeats."""
    monkeypatch.setattr(subscriptions, "ACK_WAIT_SECONDS", 5.0)
    monkeypatch.setattr(consumer, "HEARTBEAT_SECONDS", 0.2)
    return heartbeats


async def test_an_event_is_not_redelivered_while_its_handler_runs(
    servers: Servers, fresh_bus: None, short_ack_wait: list[Msg]
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        events = Client(subscriber).events(durable=DURABLE)
        assert (await anext(events)).id == "1"
        # These heartbeats take longer than the ack wait.
        await eventually(lambda: len(short_ack_wait) >= 30)
        info = await subscriber.js.consumer_info(StreamName.EVENTS, DURABLE)
        assert (info.num_redelivered, info.num_ack_pending) == (0, 1)
        await announce(ingest, "2")
        assert (await anext(events)).id == "2"


@pytest.mark.parametrize("how", [{"ack_wait": 1.5}, {"backoff": [1.5, 3.0], "max_deliver": 9}])
async def test_heartbeats_follow_the_ack_wait_of_an_existing_durable(
    servers: Servers, fresh_bus: None, heartbeats: list[Msg], how: dict[str, Any]
) -> None:
    async with (
        two_sides(servers) as (ingest, subscriber),
        connected(servers, User.OPERATOR) as operator,
    ):
        filtered = subjects.event("signed_up")
        existing = ConsumerConfig(durable_name=DURABLE, filter_subject=filtered, **how)
        await operator.js.add_consumer(StreamName.EVENTS, existing)
        await announce(ingest, "1")
        events = Client(subscriber).events("signed_up", durable=DURABLE)
        assert (await anext(events)).id == "1"
        # These heartbeats take longer than the ack wait.
        await eventually(lambda: len(heartbeats) >= 4)
        info = await operator.js.consumer_info(StreamName.EVENTS, DURABLE)
        assert (info.num_redelivered, info.num_ack_pending) == (0, 1)


async def test_a_dropped_iterator_releases_its_event(
    servers: Servers, fresh_bus: None, short_ack_wait: list[Msg]
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        async for event in Client(subscriber).events(durable=DURABLE):
            assert event.id == "1"
            break
        async with connected(servers, User.SUBSCRIBER) as other:
            again = await asyncio.wait_for(
                anext(Client(other).events(durable=DURABLE)), PATIENCE_SECONDS
            )
        assert again.id == "1"


@pytest.mark.parametrize("how", ["client closed", "iterator closed", "stopped"])
async def test_an_event_that_arrives_during_a_stop_goes_to_another_replica(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    # JetStream itself does not redeliver the event during the test.
    monkeypatch.setattr(subscriptions, "ACK_WAIT_SECONDS", 1000.0)
    async with two_sides(servers) as (ingest, subscriber):

        async def is_delivered() -> bool:
            info = await ingest.js.consumer_info(StreamName.EVENTS, DURABLE)
            return bool(info.num_ack_pending)

        async def has_pull_request() -> bool:
            consumers = await ingest.js.consumers_info(StreamName.EVENTS)
            return any(consumer.num_waiting for consumer in consumers)

        unsubscribe = subscriber.client._send_unsubscribe

        async def unsubscribe_late(sid: int, limit: int = 0) -> None:
            await announce(ingest, "1")
            await eventually(is_delivered)
            await unsubscribe(sid, limit)

        monkeypatch.setattr(subscriber.client, "_send_unsubscribe", unsubscribe_late)
        client = Client(subscriber)
        events = client.events(durable=DURABLE)
        waiting = asyncio.create_task(_rest(events))
        await eventually(has_pull_request)
        match how:
            case "client closed":
                await subscriber.close()
            case "iterator closed":
                await events.aclose()
            case _:
                client.stop()
        assert await waiting == []
        await eventually(is_delivered)
        async with connected(servers, User.SUBSCRIBER) as other:
            event = await asyncio.wait_for(
                anext(Client(other).events(durable=DURABLE)), PATIENCE_SECONDS
            )
        assert event.id == "1"


async def test_a_stopped_loop_finishes_its_event_and_gets_no_other(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        for id in ("1", "2", "3"):
            await announce(ingest, id)
        client = Client(subscriber)
        changes = asyncio.create_task(_rest(client.credential_changes()))
        handled = list[str]()
        async for event in client.events(durable=DURABLE):
            handled.append(event.id)
            if event.id == "2":
                client.stop()
        assert handled == ["1", "2"]
        assert await asyncio.wait_for(changes, PATIENCE_SECONDS) == []
        # A loop that starts after the stop ends at once.
        assert await _rest(client.events()) == []
        await subscriber.close()
        info = await ingest.js.consumer_info(StreamName.EVENTS, DURABLE)
        assert (info.num_ack_pending, info.num_redelivered) == (0, 0)
        assert info.num_pending == 1


async def test_a_loop_can_be_stopped_while_nats_is_down(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        client = Client(subscriber)
        events, changes = client.events(durable=DURABLE), client.credential_changes()
        assert (await anext(events)).id == "1"
        await subscriber.client.close()
        subscriber.closed = False
        ended = asyncio.gather(_rest(events), _rest(changes))
        await asyncio.sleep(0)
        client.stop()
        read_events, read_changes = await asyncio.wait_for(ended, PATIENCE_SECONDS)
        assert (read_events, read_changes) == ([], [])


async def test_a_dropped_iterator_leaves_no_consumer(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers) as (ingest, subscriber):

        async def consumers() -> list[str]:
            infos = await ingest.js.consumers_info(StreamName.EVENTS)
            return [str(info.name) for info in infos]

        client = Client(subscriber)
        await announce(ingest, "1")
        durable, closed, open_ = client.events(durable=DURABLE), client.events(), client.events()
        assert (await anext(durable)).id == "1"
        ended = [asyncio.create_task(_rest(iterator)) for iterator in (closed, open_)]
        await eventually(lambda: _has_ephemeral_consumer(subscriber, 3))
        await closed.aclose()
        assert await ended[0] == []
        assert await _has_ephemeral_consumer(subscriber, 2)
        await subscriber.close()
        assert await ended[1] == []
        assert await consumers() == [DURABLE]


@pytest.mark.parametrize("first", [True, False], ids=["has read", "has read nothing"])
async def test_a_loop_without_a_durable_misses_nothing_when_its_consumer_is_lost(
    servers: Servers, fresh_bus: None, *, first: bool
) -> None:
    async with (
        two_sides(servers) as (ingest, subscriber),
        connected(servers, User.OPERATOR) as operator,
    ):
        await announce(ingest, "before")
        events = Client(subscriber).events()
        waiting = asyncio.create_task(anext(events))
        await eventually(lambda: _has_ephemeral_consumer(subscriber, 1))
        if first:
            await announce(ingest, "1")
            assert (await waiting).id == "1"
        (lost,) = await operator.js.consumers_info(StreamName.EVENTS)
        # JetStream deletes an ephemeral consumer that received no pull request for five minutes.
        await operator.js.delete_consumer(StreamName.EVENTS, str(lost.name))
        await announce(ingest, "2")
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await (anext(events) if first else waiting)
        assert event.id == "2"


async def test_a_loop_without_a_durable_reads_all_events_of_a_recreated_stream(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        two_sides(servers) as (ingest, subscriber),
        connected(servers, User.OPERATOR) as operator,
    ):
        events = Client(subscriber).events()
        for id in ("1", "2", "3"):
            waiting = asyncio.create_task(anext(events))
            await eventually(lambda: _has_ephemeral_consumer(subscriber, 1))
            await announce(ingest, id)
            assert (await waiting).id == id
        await operator.js.delete_stream(StreamName.EVENTS)
        await streams.recreate_missing(ingest.js, User.INGEST)
        await announce(ingest, "4")
        assert (await asyncio.wait_for(anext(events), PATIENCE_SECONDS)).id == "4"


async def test_a_closed_iterator_leaves_no_task(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_sides(servers) as (_, subscriber):
        subscribe, started = subscriber.client.subscribe_inline, list[Subscription]()

        async def record(subject: str, on_message: MessageHandler) -> Subscription:
            started.append(await subscribe(subject, on_message))
            return started[-1]

        monkeypatch.setattr(subscriber.client, "subscribe_inline", record)
        events = Client(subscriber).events(durable=DURABLE)
        waiting = asyncio.create_task(_rest(events))
        await eventually(lambda: started)
        await events.aclose()
        assert await waiting == []
        # asyncio logs an error when a pending task is garbage-collected.
        tasks = [subscription._wait_for_msgs_task for subscription in started]
        await eventually(lambda: all(task and task.done() for task in tasks))


async def test_an_unacknowledged_event_is_released_when_the_client_is_closed(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "ACK_WAIT_SECONDS", 1000.0)
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        events = Client(subscriber).events(durable=DURABLE)
        assert (await anext(events)).id == "1"
        await subscriber.close()
        async with connected(servers, User.SUBSCRIBER) as other:
            again = await asyncio.wait_for(
                anext(Client(other).events(durable=DURABLE)), PATIENCE_SECONDS
            )
        assert again.id == "1"
        assert await _rest(events) == []


async def test_an_unacknowledged_event_is_released_when_the_clients_scope_is_cancelled(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled scope of anyio also cancels the close of the client."""
    monkeypatch.setattr(sequential_reader, "REDELIVERY_SECONDS", 0)
    monkeypatch.setattr(subscriptions, "ACK_WAIT_SECONDS", 1000.0)
    async with two_sides(servers) as (ingest, subscriber):
        await announce(ingest, "1")
        with anyio.CancelScope() as scope:
            async with hogsend.connect(servers.nats_url(User.SUBSCRIBER)) as client:
                events = client.events(durable=DURABLE)
                await anext(events)
                scope.cancel()
                await asyncio.Event().wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await anext(Client(subscriber).events(durable=DURABLE))).id == "1"
        assert await _rest(events) == []


async def test_a_cancelled_wait_can_be_repeated(servers: Servers, fresh_bus: None) -> None:
    async with (
        two_sides(servers) as (ingest, subscriber),
        connected(servers, User.OPERATOR) as operator,
    ):
        events = Client(subscriber).events()
        await announce(ingest, "before the first pull request")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.2)
        await eventually(lambda: operator.js.consumers_info(StreamName.EVENTS))
        for id in ("1", "2"):
            await announce(ingest, id)
            assert (await asyncio.wait_for(anext(events), PATIENCE_SECONDS)).id == id
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.2)


async def test_loops_end_when_the_client_is_closed(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        client = Client(subscriber)
        await announce(ingest, "1")
        holding, waiting = client.events(durable=DURABLE), client.events()
        # The stream of credential changes does not exist, so its reader keeps retrying.
        changes = client.credential_changes()
        assert (await anext(holding)).id == "1"
        ended = [asyncio.ensure_future(_rest(iterator)) for iterator in (waiting, changes)]
        await eventually(lambda: _has_ephemeral_consumer(subscriber))
        await subscriber.close()
        # An iterator with an unacknowledged event, and iterators first read after the close.
        ended += [
            asyncio.ensure_future(_rest(iterator))
            for iterator in (holding, client.events(), client.credential_changes())
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await asyncio.gather(*ended) == [[]] * 5


async def test_a_client_can_be_closed_right_after_its_connection_was_lost(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (_, subscriber):
        ended = asyncio.ensure_future(_rest(Client(subscriber).events()))
        await eventually(lambda: _has_ephemeral_consumer(subscriber, 1))
        subscriber.client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        await subscriber.client._send_command(b"PING\r\n")
        await subscriber.close()
        assert not subscriber.client._subs
        assert await asyncio.wait_for(ended, PATIENCE_SECONDS) == []


async def test_a_loop_ends_when_nats_pys_client_is_closed(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (_, subscriber):
        ended = asyncio.ensure_future(_rest(Client(subscriber).events()))
        await eventually(lambda: _has_ephemeral_consumer(subscriber, 1))
        await subscriber.client.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await ended == []


async def test_a_loop_continues_after_an_error_of_the_server(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        reported = list[str]()
        subscriber.observe = lambda event, detail: reported.append(f"{event} {detail}")
        events = Client(subscriber).events(durable=DURABLE)
        await announce(ingest, "1")
        assert (await anext(events)).id == "1"
        # The server replies to an unknown command with an error, and closes the connection.
        await subscriber.client._send_command(b"NONSENSE\r\n")
        await subscriber.client._flush_pending()
        await eventually(lambda: "reconnected " in reported)
        assert any("unknown protocol operation" in line for line in reported)
        await announce(ingest, "2")
        assert (await asyncio.wait_for(anext(events), PATIENCE_SECONDS)).id == "2"


async def test_an_iterator_belongs_to_one_task(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        client = Client(subscriber)
        for iterator in (client.events(durable=DURABLE), client.credential_changes()):
            waiting = asyncio.ensure_future(anext(iterator))
            await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE_SECONDS):
                with pytest.raises(RuntimeError, match="an iterator of its own"):
                    await anext(iterator)
            waiting.cancel()
            await asyncio.wait([waiting])
        # The refused second call has not acknowledged or lost an event.
        events = client.events(durable=DURABLE)
        for id in ("1", "2"):
            await announce(ingest, id)
        assert (await anext(events)).id == "1"
        assert (await anext(events)).id == "2"


async def _rest(iterator: AsyncIterator[object]) -> list[object]:
    return [item async for item in iterator]


async def test_a_durable_belongs_to_its_names(servers: Servers, fresh_bus: None) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        client = Client(subscriber)
        await announce(ingest, "1")
        own = client.events("signed_up", durable=DURABLE)
        assert (await anext(own)).id == "1"
        other_names = client.events(["invoice.paid", "plan changed"], durable=DURABLE)
        for _ in range(2):
            with pytest.raises(ConsumerConflict) as raised:
                await anext(other_names)
            message = str(raised.value)
            assert repr(DURABLE) in message
            for subject in ("signed_up", "invoice%2Epaid", "plan%20changed"):
                assert f"hogsend.events.{subject}" in message
        with pytest.raises(ConsumerConflict):
            await anext(client.events(durable=DURABLE))
        # The durable was not changed: the first loop and another replica of it continue.
        await announce(ingest, "2")
        assert (await anext(own)).id == "2"
        await announce(ingest, "3")
        assert (await anext(client.events(["signed_up"], durable=DURABLE))).id == "3"


async def test_several_names_are_one_durable_in_any_order(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        client = Client(subscriber)
        events = client.events(["plan changed", "signed_up", "signed_up"], durable=DURABLE)
        await announce(ingest, "1", "signed_up")
        await announce(ingest, "2", "page_viewed")
        await announce(ingest, "3", "plan changed")
        assert [(await anext(events)).id for _ in range(2)] == ["1", "3"]
        await announce(ingest, "4", "signed_up")
        again = client.events(("signed_up", "plan changed"), durable=DURABLE)
        assert (await anext(again)).id == "4"
        passing = client.events(["signed_up", "plan changed"])
        waiting = asyncio.ensure_future(anext(passing))
        await eventually(lambda: _has_ephemeral_consumer(subscriber))
        await announce(ingest, "5", "plan changed")
        assert (await waiting).id == "5"


async def test_a_push_consumer_is_a_conflict_and_not_changed(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (_, subscriber), connected(servers, User.OPERATOR) as operator:
        pushing = ConsumerConfig(
            durable_name=DURABLE,
            filter_subject=subjects.event("signed_up"),
            deliver_subject="hogsend.somewhere",
        )
        js = await operator.js_for(StreamName.EVENTS)
        await js.add_consumer(StreamName.EVENTS, pushing)
        with pytest.raises(ConsumerConflict, match="push consumer"):
            await anext(Client(subscriber).events("signed_up", durable=DURABLE))


async def test_a_reply_of_jetstream_in_a_stream_stops_no_reader(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        two_sides(servers) as (ingest, subscriber),
        connected(servers, User.OPERATOR) as operator,
    ):
        reply = subjects.event("signed_up")
        for request in ("STREAM.INFO.EVENTS", "CONSUMER.MSG.NEXT.EVENTS.none"):
            # Every reader can do this on a NATS server without Hogsend's configuration.
            await operator.client.publish(f"$JS.API.{request}", b"", reply=reply)

        async def has_reply() -> bool:
            return (await ingest.js.stream_info(StreamName.EVENTS)).state.messages > 0

        await eventually(has_reply)
        await announce(ingest, "1")
        events = Client(subscriber).events(durable=DURABLE)
        assert (await asyncio.wait_for(anext(events), PATIENCE_SECONDS)).id == "1"
        waiting = asyncio.ensure_future(anext(events))

        async def is_drained() -> bool:
            info = await subscriber.js.consumer_info(StreamName.EVENTS, DURABLE)
            return not info.num_ack_pending and not info.num_pending

        await eventually(is_drained)
        waiting.cancel()


async def _has_ephemeral_consumer(subscriber: Connection, consumers: int = 2) -> bool:
    async with asyncio.timeout(PATIENCE_SECONDS):
        info = await subscriber.js.stream_info(StreamName.EVENTS)
    return info.state.consumer_count == consumers


async def test_an_undecodable_event_is_an_error_and_the_loop_continues(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        for id, seats in (("1", 1), ("2", "two"), ("3", 3)):
            await announce(ingest, id, properties={"seats": seats})
        events = Client(subscriber).events("signed_up", durable=DURABLE, type=Plan)
        assert (await anext(events)).properties == Plan(1)
        with pytest.raises(CannotDecode, match="'signed_up' 2 is no Plan") as refused:
            await anext(events)
        assert refused.value.event is not None
        assert await unacknowledged(servers) == 1, (
            "an event is acknowledged when the next one is requested"
        )
        assert (await anext(events)).properties == Plan(3)
        assert await unacknowledged(servers) == 1


async def test_undecodable_events_go_to_their_handler_only(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        for id, seats in (("1", "one"), ("2", None), ("3", 3), ("4", "four"), ("5", 5)):
            await announce(ingest, id, properties={"seats": seats})
        reported: list[str] = []

        async def record(error: CannotDecode) -> None:
            reported.append(f"{error.id} {error.path}")
            if reported.count("4 properties.seats") == 1:
                raise RuntimeError

        events = Client(subscriber).events(
            "signed_up", durable=DURABLE, type=Plan, undecodable=record
        )
        assert (await anext(events)).id == "3"
        assert reported == ["1 properties.seats", "2 properties.seats"]
        with pytest.raises(RuntimeError):
            await anext(events)
        assert await unacknowledged(servers) == 1
        assert (await anext(events)).id == "5"
        assert reported[2:] == ["4 properties.seats"] * 2


async def test_a_cancelled_handler_of_undecodable_events_is_called_again(
    servers: Servers, fresh_bus: None
) -> None:
    async with two_sides(servers) as (ingest, subscriber):
        for id, seats in (("1", "one"), ("2", 2)):
            await announce(ingest, id, properties={"seats": seats})
        reported: list[str] = []
        is_called, may_return = asyncio.Event(), asyncio.Event()

        async def record(error: CannotDecode) -> None:
            is_called.set()
            await may_return.wait()
            reported.append(error.id)

        events = Client(subscriber).events(
            "signed_up", durable=DURABLE, type=Plan, undecodable=record
        )
        waiting = asyncio.create_task(anext(events))
        await is_called.wait()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert await unacknowledged(servers) == 1
        may_return.set()
        assert (await anext(events)).id == "2"
        assert reported == ["1"]


async def unacknowledged(servers: Servers) -> int:
    """Return how many events are delivered and not acknowledged."""
    async with connected(servers, User.OPERATOR) as operator:
        info = await operator.js.consumer_info(StreamName.EVENTS, DURABLE)
        return int(info.num_ack_pending or 0)
