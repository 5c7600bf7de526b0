"""A recreated consumer continues at its position, also with servers that report less state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy, SequenceInfo

from hogsend.transport.own_consumer import Position

CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
NEW = ConsumerConfig(durable_name="destination-1", deliver_policy=DeliverPolicy.NEW)


class Server:
    """Replies as nats-server 2.12 does: the ack floor is 0 until the first acknowledgement."""

    def __init__(self, last: int) -> None:
        self.created, self.last = CREATED_AT, last
        self.requested: list[ConsumerConfig] = []
        self._started_after = self._delivered = self._ack_floor = 0

    async def stream_info(self, _stream: str) -> Any:
        return self

    @property
    def state(self) -> Any:
        return self

    @property
    def last_seq(self) -> int:
        return self.last

    async def add_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        self.requested.append(config)
        self._started_after = (config.opt_start_seq or self.last + 1) - 1
        self._delivered = self._ack_floor = 0
        return await self.consumer_info(stream, "")

    async def consumer_info(self, stream: str, _name: str) -> ConsumerInfo:
        return ConsumerInfo(
            name="destination-1",
            stream_name=stream,
            config=self.requested[-1],
            created=CREATED_AT,
            delivered=SequenceInfo(self._delivered, self._started_after + self._delivered),
            ack_floor=SequenceInfo(
                self._ack_floor, self._started_after + self._ack_floor if self._ack_floor else 0
            ),
        )

    def deliver(self, count: int) -> None:
        self.last += count
        self._delivered += count

    def acknowledge(self) -> None:
        self._ack_floor = self._delivered


@pytest.fixture
def server() -> Server:
    return Server(last=7)


async def recreate(position: Position, server: Server) -> int | None:
    """Create the consumer; return the requested start sequence, None for the declared start."""
    await position.ensure_consumer(cast("JetStreamContext", server), "S", NEW)
    return server.requested[-1].opt_start_seq


async def refresh(position: Position, server: Server) -> int:
    await position.refresh(cast("JetStreamContext", server), "S", "destination-1")
    return position.acknowledged


async def test_a_consumer_that_delivered_nothing_is_recreated_with_its_first_start(
    server: Server,
) -> None:
    position = Position()
    assert await recreate(position, server) is None
    server.last = 9
    assert await recreate(position, server) == 8
    server.last = 11
    assert await recreate(position, server) == 8


async def test_a_consumer_without_an_acknowledgement_is_recreated_with_its_first_start(
    server: Server,
) -> None:
    position = Position()
    await recreate(position, server)
    server.deliver(2)
    assert await refresh(position, server) == 7
    assert await recreate(position, server) == 8


async def test_the_ack_floor_is_used_as_soon_as_the_server_reports_it(server: Server) -> None:
    position = Position()
    await recreate(position, server)
    server.deliver(2)
    server.acknowledge()
    assert await refresh(position, server) == 9
    assert await recreate(position, server) == 10


async def test_a_new_stream_of_the_same_name_is_read_from_the_declared_start(
    server: Server,
) -> None:
    position = Position(CREATED_AT, 100)
    server.created = datetime(2026, 1, 2, tzinfo=UTC)
    assert await recreate(position, server) is None
    assert position.acknowledged == 7


async def test_a_stream_that_ends_before_the_position_is_read_from_its_end(server: Server) -> None:
    position = Position(CREATED_AT, 100)
    assert await recreate(position, server) == 8
    assert position.acknowledged == 7
