"""A reader whose consumer cannot be read reports why, and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.partitions import partition_consumer
from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.follower import Follower
from hogsend.transport.pinned_consumer import PinnedConsumer
from hogsend.transport.read_failures import MAX_REASONS, ReadFailures
from services.ingest.partitions.partition import Partition
from tests.virtual_time import on_virtual_time

FULL = nats.errors.Error("10026 maximum consumers limit reached")


class FakeJetStream(Connection):
    """A connection to a JetStream that fails every request."""

    def __init__(self) -> None:
        self.reported: list[str] = []
        super().__init__(
            "ingest",
            "nats://127.0.0.1:4222",
            observer=lambda event, detail: self.reported.append(f"{event} {detail}"),
        )
        self.js = self  # type: ignore[assignment]
        self.error: Exception | None = FULL
        self.requests = 0

    @property
    def connected(self) -> bool:
        return True

    async def add_consumer(self, *_args: Any) -> None:
        await self.request_raw("", b"", seconds=1)

    async def request_raw(self, _subject: str, _body: bytes, **_args: Any) -> Msg:  # type: ignore[override]
        self.requests += 1
        assert self.error is not None
        raise self.error


async def consume(server: FakeJetStream) -> None:
    config = ConsumerConfig(durable_name="mine")
    async for _ in Consumer(server, "WEBHOOKS", config, batch=1, adjust=False).batches():
        pytest.fail("a message was delivered")


async def follow(server: FakeJetStream) -> None:
    await Follower(server, "CREDENTIALS", ConsumerConfig()).next()


async def read_a_partition(server: FakeJetStream) -> None:
    async def process(_messages: list[Msg]) -> None:
        pytest.fail("a message was delivered")

    source = PinnedConsumer(server, "WEBHOOKS", partition_consumer(0, 4))
    partition = Partition(source, process, asyncio.Semaphore(1), batch=1)
    partition.request(requested=True)
    await partition.run()


@pytest.mark.parametrize(
    ("read", "summary"),
    [
        (consume, "WEBHOOKS cannot be read as 'mine'"),
        (follow, "CREDENTIALS cannot be read"),
        (
            read_a_partition,
            f"WEBHOOKS cannot be read as {partition_consumer(0, 4).durable_name!r}",
        ),
    ],
)
@on_virtual_time
async def test_each_reason_is_reported_once(
    read: Callable[[FakeJetStream], Awaitable[None]], summary: str
) -> None:
    server = FakeJetStream()
    reading = asyncio.ensure_future(read(server))
    await asyncio.sleep(60)
    assert server.requests > 100
    expected = [f"error {summary}: Error: 10026 maximum consumers limit reached"]
    assert server.reported == expected
    server.error = nats.errors.TimeoutError()
    await asyncio.sleep(60)
    assert server.reported == [*expected, f"error {summary}: TimeoutError: nats: timeout"]
    await cancel_all(reading)


def test_a_single_failure_is_not_reported() -> None:
    server = FakeJetStream()
    failures = ReadFailures(server, "EVENTS", None)
    for _ in range(3):
        failures.record(FULL)
        failures.clear()
    assert server.reported == []
    for _ in range(2):
        failures.record(FULL)
        failures.record(FULL)
        failures.clear()
    assert len(server.reported) == 2


def test_the_number_of_different_reasons_is_limited() -> None:
    server = FakeJetStream()
    failures = ReadFailures(server, "EVENTS", None)
    for number in range(100):
        failures.record(nats.errors.Error(str(number)))
    assert len(server.reported) == MAX_REASONS
