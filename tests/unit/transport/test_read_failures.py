"""Whoever reads a consumer that JetStream refuses says so, and goes on trying."""

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
    """A connection to a JetStream that refuses every consumer."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(
            "ingest",
            "nats://127.0.0.1:4222",
            observer=lambda what, detail: self.told.append(f"{what} {detail}"),
        )
        self.js = self  # type: ignore[assignment]
        self.refuses: Exception | None = FULL
        self.asked = 0

    @property
    def connected(self) -> bool:
        return True

    async def add_consumer(self, *_given: Any) -> None:
        await self.request_raw("", b"", seconds=1)

    async def request_raw(self, _subject: str, _body: bytes, **_given: Any) -> Msg:  # type: ignore[override]
        self.asked += 1
        assert self.refuses is not None
        raise self.refuses


async def consumes(server: FakeJetStream) -> None:
    config = ConsumerConfig(durable_name="mine")
    async for _ in Consumer(server, "WEBHOOKS", config, batch=1, adjust=False).batches():
        pytest.fail("it has messages")


async def follows(server: FakeJetStream) -> None:
    await Follower(server, "CREDENTIALS", ConsumerConfig()).next()


async def reads_a_partition(server: FakeJetStream) -> None:
    async def process(_messages: list[Msg]) -> None:
        pytest.fail("it has messages")

    source = PinnedConsumer(server, "WEBHOOKS", partition_consumer(0, 4))
    partition = Partition(source, process, asyncio.Semaphore(1), batch=1)
    partition.want(wanted=True)
    await partition.run()


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (consumes, "WEBHOOKS cannot be read as 'mine'"),
        (follows, "CREDENTIALS cannot be read"),
        (
            reads_a_partition,
            f"WEBHOOKS cannot be read as {partition_consumer(0, 4).durable_name!r}",
        ),
    ],
)
@on_virtual_time
async def test_each_reason_is_said_once(
    read: Callable[[FakeJetStream], Awaitable[None]], what: str
) -> None:
    server = FakeJetStream()
    reading = asyncio.ensure_future(read(server))
    await asyncio.sleep(60)
    assert server.asked > 100
    expected = [f"error {what}: Error: 10026 maximum consumers limit reached"]
    assert server.told == expected
    server.refuses = nats.errors.TimeoutError()
    await asyncio.sleep(60)
    assert server.told == [*expected, f"error {what}: TimeoutError: nats: timeout"]
    await cancel_all(reading)


def test_what_fails_once_is_not_said() -> None:
    server = FakeJetStream()
    failures = ReadFailures(server, "EVENTS", None)
    for _ in range(3):
        failures.record(FULL)
        failures.clear()
    assert server.told == []
    for _ in range(2):
        failures.record(FULL)
        failures.record(FULL)
        failures.clear()
    assert len(server.told) == 2


def test_reasons_that_differ_each_time_have_an_end() -> None:
    server = FakeJetStream()
    failures = ReadFailures(server, "EVENTS", None)
    for number in range(100):
        failures.record(nats.errors.Error(str(number)))
    assert len(server.told) == MAX_REASONS
