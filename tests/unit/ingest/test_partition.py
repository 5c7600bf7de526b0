"""When a replica requests, consumes and releases a partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.service.tasks import cancel_all
from hogsend.transport.pinned_consumer import (
    EXTENSIONS_PER_PIN,
    OverlappingConsumer,
    PinnedConsumer,
)
from hogsend.transport.pull import ConsumerGone
from services.ingest.partitions.partition import RETRY_SECONDS, Partition
from tests.virtual_time import now, on_virtual_time, settle

PIN_SECONDS = 6.0
WAIT_SECONDS = 2.0
BATCH = 3


class Failures:
    """Records the failed attempts in a row; stands in for `ReadFailures`."""

    def __init__(self) -> None:
        self.recorded: list[Exception] = []

    def record(self, error: Exception) -> None:
        self.recorded.append(error)

    def clear(self) -> None:
        self.recorded.clear()


class Source(PinnedConsumer):
    """A partition's consumer in memory, which is pinned to this replica at its first message."""

    _pin = ""

    def __init__(self, *queued: str | Exception) -> None:
        self.queued = list(queued)
        self.steps: list[str] = []
        self.pin_seconds = PIN_SECONDS
        self.failed = Failures()
        self.failures = cast("Any", self.failed)
        self.extended_at: list[float] = []
        self.stop_error: Exception | None = None

    @property
    def name(self) -> str:
        return "partition"

    async def wait_for_first(self) -> list[Msg]:
        self.steps.append("wait")
        messages = self._take(1)
        if not messages:
            await asyncio.sleep(WAIT_SECONDS)
        return messages

    async def fetch_more(self, batch: int) -> list[Msg]:
        return self._take(batch)

    async def extend_pin(self) -> None:
        self.extended_at.append(now())
        if len(self.extended_at) == 1:
            raise nats.errors.TimeoutError

    async def unpin(self) -> None:
        if self._pin:
            self.steps.append("unpin")
        self._pin = ""

    async def stop(self) -> None:
        self.steps.append("stop")
        self._pin = ""
        if self.stop_error is not None:
            raise self.stop_error

    def _take(self, count: int) -> list[Msg]:
        if self.queued and isinstance(error := self.queued[0], Exception):
            del self.queued[0]
            raise error
        texts, self.queued = self.queued[:count], self.queued[count:]
        if texts:
            self._pin = "pinned"
        return [Msg(cast("Any", None), data=str(text).encode()) for text in texts]


class Consumed:
    """Records the batches of a partition; each takes `seconds`."""

    def __init__(self, seconds: float = 0) -> None:
        self.batches: list[list[str]] = []
        self._seconds = seconds

    async def __call__(self, messages: Sequence[Msg]) -> None:
        await asyncio.sleep(self._seconds)
        self.batches.append([message.data.decode() for message in messages])


@asynccontextmanager
async def running(source: Source, consumed: Consumed) -> AsyncIterator[Partition]:
    partition = Partition(source, consumed, asyncio.Semaphore(1), batch=BATCH)
    task = asyncio.create_task(partition.run())
    try:
        yield partition
    finally:
        await cancel_all(task)


@on_virtual_time
async def test_a_partition_is_read_only_while_it_is_requested_or_owned() -> None:
    source, consumed = Source(), Consumed()
    async with running(source, consumed) as partition:
        await asyncio.sleep(60)
        assert source.steps == []
        partition.request(requested=True)
        await settle()
        partition.request(requested=False)
        await asyncio.sleep(60)
        # The request that was open has ended without a message.
        assert source.steps == ["wait"]
        partition.request(requested=True)
        source.queued = ["1"]
        await asyncio.sleep(60)
        partition.request(requested=False)
        source.queued = ["2"]
        await asyncio.sleep(60)
        assert (partition.is_owned, consumed.batches) == (True, [["1"], ["2"]])


@on_virtual_time
async def test_a_partition_is_released_between_two_batches() -> None:
    source, consumed = Source(*"12345"), Consumed(seconds=1)
    async with running(source, consumed) as partition:
        partition.request(requested=True)
        await settle()
        partition.release()
        await asyncio.sleep(60)
        assert consumed.batches == [["1", "2", "3"]]
        assert source.steps == ["wait", "unpin"]
        assert not partition.is_owned
        # It may be owned again.
        partition.request(requested=True)
        await asyncio.sleep(60)
        assert consumed.batches == [["1", "2", "3"], ["4", "5"]]


@on_virtual_time
async def test_a_partition_stays_owned_during_a_batch_that_takes_long() -> None:
    source, consumed = Source("1"), Consumed(seconds=10 * PIN_SECONDS)
    async with running(source, consumed) as partition:
        partition.request(requested=True)
        await asyncio.sleep(10 * PIN_SECONDS + 1)
        assert consumed.batches == [["1"]]
        interval = PIN_SECONDS / EXTENSIONS_PER_PIN
        # The first one failed.
        assert source.extended_at[:3] == [interval, 2 * interval, 3 * interval]
        extended = len(source.extended_at)
        await asyncio.sleep(10 * PIN_SECONDS)
        assert len(source.extended_at) == extended


@pytest.mark.parametrize("error", [nats.errors.TimeoutError(), ConsumerGone("deleted"), OSError()])
@on_virtual_time
async def test_a_partition_that_cannot_be_read_is_requested_again(error: Exception) -> None:
    source, consumed = Source(error), Consumed()
    # The connection is lost, so that the naks of its messages fail, too.
    source.stop_error = nats.errors.TimeoutError()
    async with running(source, consumed) as partition:
        partition.request(requested=True)
        await settle()
        assert source.failed.recorded == [error]
        # Messages that were delivered go to the next owner.
        assert source.steps == ["wait", "stop"]
        source.queued = ["1"]
        await asyncio.sleep(RETRY_SECONDS)
        await settle()
        assert consumed.batches == [["1"]]
        assert source.failed.recorded == []


@on_virtual_time
async def test_consumers_of_another_number_of_partitions_are_noted_until_they_are_deleted() -> None:
    source, consumed = Source(OverlappingConsumer("other")), Consumed()
    async with running(source, consumed) as partition:
        partition.request(requested=True)
        await settle()
        assert partition.overlaps
        await asyncio.sleep(RETRY_SECONDS + WAIT_SECONDS)
        await settle()
        assert not partition.overlaps


@on_virtual_time
async def test_a_partition_is_released_when_the_replica_stops_or_its_connection_closes() -> None:
    for error in (None, nats.errors.ConnectionClosedError()):
        source, consumed = Source("1", *([error] if error else [])), Consumed()
        async with running(source, consumed) as partition:
            partition.request(requested=True)
            await settle()
        assert source.steps[-2:] == ["unpin", "stop"]
        assert not partition.is_owned
