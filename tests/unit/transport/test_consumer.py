"""Reading a consumer in batches: what it goes on after, and what it leaves to others."""

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
from tests.unit.transport.test_follower import Server, kept_by
from tests.virtual_time import on_virtual_time, settle


class Events(Server):
    """Has events, and notes which are acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: list[int] = []

    async def request_raw(self, subject: str, *given: Any, **more: Any) -> Msg:
        answer = await super().request_raw(subject, *given, **more)
        answer.data = answer.data.replace(b'"none"', b'"explicit"')
        return answer

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        if subject.startswith("$JS.ACK.") and not payload:
            self.acknowledged.append(int(subject.split(".")[5]))
            return
        await super().publish(subject, payload, reply)

    def event(self, sequence: int, data: bytes = b"{}") -> Msg:
        """Deliver one."""
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
async def test_a_reader_that_ends_gives_back_what_it_has_not_handed_out() -> None:
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
async def test_a_reader_that_is_cancelled_gives_back_what_came() -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    waiting.cancel()
    server.event(1)
    await cancel_all(waiting)
    assert server.naks == [1]


@on_virtual_time
async def test_a_lost_request_is_made_again_and_is_no_trouble() -> None:
    server = Events()
    batches = reading(server).batches()
    for sequence in (1, 2):
        waiting = asyncio.create_task(_next(batches))
        await settle()
        server.stats["reconnects"] += 1
        await asyncio.sleep(5)
        event = server.event(sequence)
        assert await waiting == [event]
    assert server.said == []
    assert server.made == ["mine"] * 3
    waiting = asyncio.create_task(_next(batches))
    await settle()
    event = server.event(3)
    assert await waiting == [event]
    # One reader serves as long as nothing is lost, and none of those before is kept.
    assert server.made == ["mine"] * 3
    assert len(kept_by(server)) == 1
    await batches.aclose()


@on_virtual_time
async def test_a_server_that_fails_is_asked_again_after_a_pause_and_told_of() -> None:
    server = Events()
    server.error = nats.errors.TimeoutError()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await asyncio.sleep(10)
    assert 2 < len(server.made) <= 1 + 10 / RETRY_SECONDS
    assert [what for what, _ in server.said] == ["error"]
    server.error = None
    await asyncio.sleep(1)
    event = server.event(1)
    assert await waiting == [event]


@on_virtual_time
async def test_a_consumer_that_was_deleted_is_made_again() -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    server.status("409", "Consumer Deleted")
    await asyncio.sleep(1)
    event = server.event(1)
    assert await waiting == [event]
    assert server.made == ["mine", "mine"]


@on_virtual_time
@pytest.mark.parametrize(
    "answer", [b"", b'{"type":"io.nats.jetstream.api.v1.stream_info_response"}']
)
async def test_what_jetstream_itself_has_put_there_is_acknowledged_and_left_out(
    answer: bytes,
) -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    server.event(1, answer)
    await settle()
    event = server.event(2)
    assert await waiting == [event]
    assert server.acknowledged == [1]


@on_virtual_time
async def test_a_reader_ends_with_its_connection_whether_it_had_begun_or_not() -> None:
    server = Events()
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await settle()
    await server.close()
    assert await waiting is None
    # It still is connected while it is closed.
    assert await _next(reading(server).batches()) is None
    server.is_there = False
    assert await _next(reading(server).batches()) is None
    assert server.made == ["mine"]


@on_virtual_time
async def test_nothing_is_asked_before_there_is_a_connection() -> None:
    server = Events()
    server.is_there = False
    waiting = asyncio.create_task(_next(reading(server).batches()))
    await asyncio.sleep(10)
    assert server.made == []
    server.is_there = True
    await asyncio.sleep(1)
    event = server.event(1)
    assert await waiting == [event]


@on_virtual_time
async def test_a_refusal_is_raised() -> None:
    server = Events()
    server.refuses = True
    with pytest.raises(Forbidden):
        await _next(reading(server).batches())


async def test_only_a_consumer_that_is_not_durable_is_forgotten() -> None:
    server = Events()
    for durable in ("mine", None):
        consumer = reading(server, durable=durable)
        name = await consumer.find()
        await consumer.forget()
        assert server.forgotten == ([] if durable else [name])
