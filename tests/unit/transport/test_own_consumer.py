"""A consumer that is made again goes on where it was, also on servers that say less."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy, SequenceInfo

from hogsend.transport.own_consumer import Position

MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
NEW = ConsumerConfig(durable_name="destination-1", deliver_policy=DeliverPolicy.NEW)


class Server:
    """Answers as nats-server 2.12 does: the floor is 0 until the first acknowledgement."""

    def __init__(self, last: int) -> None:
        self.created, self.last = MADE_AT, last
        self.asked: list[ConsumerConfig] = []
        self._begun = self._read = self._floor = 0

    async def stream_info(self, _stream: str) -> Any:
        return self

    @property
    def state(self) -> Any:
        return self

    @property
    def last_seq(self) -> int:
        return self.last

    async def add_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        self.asked.append(config)
        self._begun = (config.opt_start_seq or self.last + 1) - 1
        self._read = self._floor = 0
        return await self.consumer_info(stream, "")

    async def consumer_info(self, stream: str, _name: str) -> ConsumerInfo:
        return ConsumerInfo(
            name="destination-1",
            stream_name=stream,
            config=self.asked[-1],
            created=MADE_AT,
            delivered=SequenceInfo(self._read, self._begun + self._read),
            ack_floor=SequenceInfo(self._floor, self._begun + self._floor if self._floor else 0),
        )

    def deliver(self, count: int) -> None:
        self.last += count
        self._read += count

    def acknowledge(self) -> None:
        self._floor = self._read


@pytest.fixture
def server() -> Server:
    return Server(last=7)


async def made(position: Position, server: Server) -> int | None:
    """Make the consumer; gives where it was asked to begin, None for as declared."""
    await position.made(cast("JetStreamContext", server), "S", NEW)
    return server.asked[-1].opt_start_seq


async def look(position: Position, server: Server) -> int:
    await position.look(cast("JetStreamContext", server), "S", "destination-1")
    return position.acknowledged


async def test_one_that_has_read_nothing_begins_where_it_was_made(server: Server) -> None:
    position = Position()
    assert await made(position, server) is None
    server.last = 9
    assert await made(position, server) == 8
    server.last = 11
    assert await made(position, server) == 8


async def test_one_that_has_acknowledged_nothing_does_too(server: Server) -> None:
    position = Position()
    await made(position, server)
    server.deliver(2)
    assert await look(position, server) == 7
    assert await made(position, server) == 8


async def test_what_was_acknowledged_counts_as_soon_as_it_is_said(server: Server) -> None:
    position = Position()
    await made(position, server)
    server.deliver(2)
    server.acknowledge()
    assert await look(position, server) == 9
    assert await made(position, server) == 10


async def test_another_stream_of_that_name_is_read_as_declared(server: Server) -> None:
    position = Position(MADE_AT, 100)
    server.created = datetime(2026, 1, 2, tzinfo=UTC)
    assert await made(position, server) is None
    assert position.acknowledged == 7


async def test_a_stream_that_ends_sooner_is_read_from_there(server: Server) -> None:
    position = Position(MADE_AT, 100)
    assert await made(position, server) == 8
    assert position.acknowledged == 7
