"""The publisher on a real server: each message is stored once, in order, or has its own error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.contract.streams import INGEST_CONSUMER, STREAMS, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.publisher import IN_FLIGHT, OutgoingMessage
from tests.integration.harness import connected
from tests.servers import Servers
from tests.waiting import eventually


@pytest.fixture
async def operator(servers: Servers, fresh_bus: None) -> AsyncIterator[Connection]:
    async with connected(servers, User.OPERATOR) as operator:
        await streams.reconcile(operator.js, User.INGEST)
        yield operator


@pytest.fixture
async def ingest(servers: Servers, operator: Connection) -> AsyncIterator[Connection]:
    async with connected(servers, User.INGEST) as ingest:
        yield ingest


def outgoing(ids: Sequence[int], size: int = 1) -> list[OutgoingMessage]:
    return [
        OutgoingMessage("hogsend.events.e", b"x" * size, {"Nats-Msg-Id": str(id), "n": "a\r\nb\n"})
        for id in ids
    ]


async def reconfigure(operator: Connection, **changes: object) -> None:
    await operator.js.update_stream(STREAMS[StreamName.EVENTS].config.evolve(**changes))


async def ids_on_the_bus(operator: Connection) -> list[str]:
    info = await operator.js.stream_info(StreamName.EVENTS)
    ids = []
    for sequence in range(1, info.state.last_seq + 1):
        message = await operator.js.get_msg(StreamName.EVENTS, sequence)
        assert message.headers is not None
        assert set(message.headers) == {"Nats-Msg-Id", "n"}
        ids.append(message.headers["Nats-Msg-Id"])
    return ids


@pytest.mark.parametrize(
    "published_before", [[], [0], [1], [3], [0, 1], [2, 3], [1, 2], [0, 3], [0, 1, 2, 3]], ids=str
)
async def test_duplicates_anywhere_in_a_batch_are_dropped(
    ingest: Connection, operator: Connection, published_before: list[int]
) -> None:
    assert await ingest.publisher.publish_all(outgoing(published_before)) == [None] * len(
        published_before
    )
    assert await ingest.publisher.publish_all(outgoing(range(4))) == [None] * 4
    assert sorted(await ids_on_the_bus(operator)) == ["0", "1", "2", "3"]


async def test_more_than_one_window_keeps_its_order(
    ingest: Connection, operator: Connection
) -> None:
    ids = range(IN_FLIGHT + 3)
    assert await ingest.publisher.publish_all(outgoing(ids)) == [None] * len(ids)
    assert await ids_on_the_bus(operator) == [str(id) for id in ids]


async def test_concurrent_callers_keep_the_order_of_their_calls(
    ingest: Connection, operator: Connection
) -> None:
    await asyncio.gather(*map(ingest.publisher.publish, outgoing(range(500))))
    assert await ids_on_the_bus(operator) == [str(id) for id in range(500)]


@pytest.mark.parametrize("position", range(4))
async def test_a_message_too_large_for_the_stream_has_its_own_outcome(
    ingest: Connection, operator: Connection, position: int
) -> None:
    await reconfigure(operator, max_msg_size=200)
    messages = outgoing(range(4))
    messages[position] = msgspec.structs.replace(messages[position], body=b"x" * 300)
    outcomes = await ingest.publisher.publish_all(messages)
    assert [type(outcome) for outcome in outcomes] == [
        TooLarge if index == position else type(None) for index in range(4)
    ]
    assert set(await ids_on_the_bus(operator)) == {"0", "1", "2", "3"} - {str(position)}


async def test_headers_that_are_too_large_have_their_own_outcome(
    ingest: Connection, operator: Connection
) -> None:
    messages = outgoing(range(3))
    messages[1] = msgspec.structs.replace(messages[1], headers={"large": "x" * 65_536})
    outcomes = await ingest.publisher.publish_all(messages)
    assert [type(outcome) for outcome in outcomes] == [type(None), TooLarge, type(None)]
    assert await ids_on_the_bus(operator) == ["0", "2"]


async def test_a_message_too_large_for_the_server_is_not_sent(
    ingest: Connection, operator: Connection
) -> None:
    messages = [*outgoing([1]), *outgoing([2], size=ingest.max_payload), *outgoing([3])]
    outcomes = await ingest.publisher.publish_all(messages)
    assert [type(outcome) for outcome in outcomes] == [type(None), TooLarge, type(None)]
    assert ingest.client.stats["reconnects"] == 0
    assert await ids_on_the_bus(operator) == ["1", "3"]


async def test_a_message_for_another_stream_is_rejected_for_good(ingest: Connection) -> None:
    with pytest.raises(PublishRejected):
        await ingest.publish("hogsend.events.e", b"{}", {"Nats-Expected-Stream": "WEBHOOKS"})


async def test_a_missing_stream_is_unavailable(ingest: Connection, operator: Connection) -> None:
    await operator.js.delete_stream(StreamName.EVENTS)
    with pytest.raises(Unavailable):
        await ingest.publisher.publish_all(outgoing(range(4)))
    with pytest.raises(Unavailable):
        await ingest.publisher.publish(*outgoing([1]))


async def test_a_full_stream_is_unavailable(ingest: Connection, operator: Connection) -> None:
    await reconfigure(operator, max_msgs=1, discard="new")
    with pytest.raises(Unavailable):
        await ingest.publisher.publish_all(outgoing(range(4)))


async def test_nothing_is_sent_while_not_connected(ingest: Connection) -> None:
    await ingest.close()
    with pytest.raises(Unavailable):
        await ingest.publisher.publish(*outgoing([1]))


async def test_an_acknowledged_batch_is_not_redelivered(
    ingest: Connection, operator: Connection
) -> None:
    for number in range(3):
        await operator.js.publish("hogsend.webhooks.posthog", b"%d" % number)
    source = Consumer(ingest, StreamName.WEBHOOKS, INGEST_CONSUMER, batch=3)
    async with aclosing(source.batches()) as batches:
        messages: list[Msg] = []
        while len(messages) < 3:
            messages += await anext(batches)
        await ingest.publisher.acknowledge(messages)
        assert all(message.is_acked for message in messages)

        async def is_empty() -> bool:
            return not (await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages

        await eventually(is_empty)
        with pytest.raises(nats.errors.MsgAlreadyAckdError):
            await ingest.publisher.acknowledge(messages[:1])
    await ingest.publisher.acknowledge([])


async def test_messages_of_a_closed_connection_stay_unacknowledged(
    ingest: Connection, operator: Connection
) -> None:
    await operator.js.publish("hogsend.webhooks.posthog", b"1")
    source = Consumer(ingest, StreamName.WEBHOOKS, INGEST_CONSUMER, batch=1)
    async with aclosing(source.batches()) as batches:
        (message,) = await anext(batches)
        await ingest.close()
        with pytest.raises(nats.errors.ConnectionClosedError):
            await ingest.publisher.acknowledge([message])
    assert not message.is_acked
