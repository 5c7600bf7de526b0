"""Reading a consumer in batches: retries, refusals, and messages that are nak'ed."""

from __future__ import annotations

import asyncio
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.errors import Forbidden
from hogsend.service.tasks import cancel_all
from hogsend.transport.consumer import RETRY_SECONDS, Consumer
from tests.unit.transport.test_follower import Server, pulls_of
from tests.virtual_time import on_virtual_time, settle


class Events(Server):
    """Delivers events, and records which are acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: list[int] = []

    async def request_raw(self, subject: str, *args: Any, **kwargs: Any) -> Msg:
        reply = await super().request_raw(subject, *args, **kwargs)
        reply.data = reply.data.replace(b'"none"', b'"explicit"')
        return reply

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        if subject.startswith("$JS.ACK.") and not payload:
            self.acknowledged.append(int(subject.split(".")[5]))
            return
        await super().publish(subject, payload, reply)

    def event(self, sequence: int, data: bytes = b"{}") -> Msg:
        """Deliver an event."""
        message = self.message(sequence)
        message.data = data
        self.deliver(message)
        return message


def reading(server: Events, *, durable: str | None = "mine", batch: int = 1) -> Consumer:
    config = ConsumerConfig(durable_name=durable, filter_subject="hogsend.events.*")
    return Consumer(server, "EVENTS", config, batch=batch, adjust=False)


async def _next(batches: Any) -> Any:
    return await anext(batches, None)


@on_virtual_time
async def test_closing_the_iterator_naks_messages_that_were_not_returned() -> None:
    server = Events()
    batches = reading(server).batches()
    waiting = asyncio.create_task(_next(batches))
    await settle()
    first = server.event(1)
    assert await waiting == [first]
    server.event(2)
    await batches.aclose()
    assert server.naks == [2]


@on_virtual_time
async def test_a_cancelled_reader_naks_the_messages_it_has_received() -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    waiting.cancel()
    server.event(1)
    await cancel_all(waiting)
    assert server.naks == [1]


@on_virtual_time
async def test_a_lost_request_is_repeated_and_not_reported() -> None:
    server = Events()
    batches = reading(server).batches()
    for sequence in (1, 2):
        waiting = asyncio.create_task(_next(batches))
        await settle()
        server.stats["reconnects"] += 1
        await asyncio.sleep(5)
        event = server.event(sequence)
        assert await waiting == [event]
    assert server.reported == []
    assert server.created == ["mine"] * 3
    waiting = asyncio.create_task(_next(batches))
    await settle()
    event = server.event(3)
    assert await waiting == [event]
    # The pull is reused until a connection is lost; no reference to an earlier pull is kept.
    assert server.created == ["mine"] * 3
    assert len(pulls_of(server)) == 1
    await batches.aclose()


@on_virtual_time
async def test_a_failing_server_is_retried_after_a_pause_and_reported() -> None:
    server = Events()
    server.error = nats.errors.TimeoutError()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await asyncio.sleep(10)
    assert 2 < len(server.created) <= 1 + 10 / RETRY_SECONDS
    assert [event for event, _ in server.reported] == ["error"]
    server.error = None
    await asyncio.sleep(1)
    event = server.event(1)
    assert await waiting == [event]


@on_virtual_time
async def test_a_deleted_consumer_is_recreated() -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    server.status("409", "Consumer Deleted")
    await asyncio.sleep(1)
    event = server.event(1)
    assert await waiting == [event]
    assert server.created == ["mine", "mine"]


@on_virtual_time
@pytest.mark.parametrize(
    "reply", [b"", b'{"type":"io.nats.jetstream.api.v1.stream_info_response"}']
)
async def test_a_reply_of_jetstream_in_the_stream_is_acknowledged_and_dropped(
    reply: bytes,
) -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    server.event(1, reply)
    await settle()
    event = server.event(2)
    assert await waiting == [event]
    assert server.acknowledged == [1]


@on_virtual_time
async def test_a_reader_ends_when_its_connection_is_closed() -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    await server.close()
    assert await waiting is None
    # While a connection is being closed, it is still connected.
    assert await _next(reading(server).batches()) is None
    server.is_up = False
    assert await _next(reading(server).batches()) is None
    assert server.created == ["mine"]


@on_virtual_time
async def test_no_request_is_sent_before_there_is_a_connection() -> None:
    server = Events()
    server.is_up = False
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await asyncio.sleep(10)
    assert server.created == []
    server.is_up = True
    await asyncio.sleep(1)
    event = server.event(1)
    assert await waiting == [event]


@on_virtual_time
async def test_a_refusal_is_raised() -> None:
    server = Events()
    server.is_refused = True
    with pytest.raises(Forbidden):
        await _next(reading(server).batches())


async def test_only_an_ephemeral_consumer_is_deleted() -> None:
    server = Events()
    for durable in ("mine", None):
        consumer = reading(server, durable=durable)
        name = await consumer.ensure()
        await consumer.delete_ephemeral()
        assert server.deleted == ([] if durable else [name])
