"""Events of one person are published in order while replicas of ingest start, stop and die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import pytest
from nats.errors import ConnectionClosedError

from hogsend.contract.errors import HogsendError
from hogsend.contract.events import Event
from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.service.broker import ServiceBroker
from services.ingest.partitions.partition import Partition
from services.ingest.partitions.sharing import Pace, Partitions
from tests.integration.ingest.driver import PATIENCE, Driver
from tests.waiting import eventually

PACE = Pace(round=0.1, replies=0.2, idle=0.1, pin=0.9)
PERSONS = 12


@asynccontextmanager
async def in_partitions(driver: Driver, partitions: int = 6) -> AsyncIterator[ServiceBroker]:
    failed = False
    try:
        async with driver.replica(batch_size=20, partitions=partitions, pace=PACE) as broker:
            try:
                yield broker
            except BaseException:
                failed = True
                raise
    except* ConnectionClosedError:
        # A killed replica can neither unsubscribe nor release its partitions.
        if failed:
            raise


async def post(driver: Driver, numbers: Sequence[int], *, in_order: bool = True) -> None:
    for number in numbers:
        person = f"person {number % PERSONS}"
        await driver.post(
            f"u-{number}", distinct_id=person, properties={"n": number}, in_order=in_order
        )


def assert_in_order(events: Sequence[Event]) -> None:
    last: dict[str, int] = {}
    for event in events:
        number = int(str(event.properties["n"]))
        assert last.get(event.user_id, -1) < number
        last[event.user_id] = number


async def kill(broker: ServiceBroker) -> None:
    """Close the connection of a replica forever, so that it can release and announce nothing."""
    broker.link.client.options["allow_reconnect"] = False
    transport: Any = broker.link.client._transport
    transport._io_writer.transport.abort()
    await eventually(lambda: broker.link.client.is_closed)


async def test_events_of_a_person_are_published_in_order_while_replicas_are_killed(
    driver: Driver,
) -> None:
    async with AsyncExitStack() as replicas:
        first = await replicas.enter_async_context(in_partitions(driver))
        second = await replicas.enter_async_context(in_partitions(driver))
        await post(driver, range(200))
        posting = asyncio.create_task(post(driver, range(200, 600)))
        await kill(first)
        await replicas.enter_async_context(in_partitions(driver))
        await posting
        await kill(second)
        events = await driver.events(600)
    assert_in_order(events)
    assert await driver.count("events") == 600


def partitions_owned(broker: ServiceBroker) -> int:
    partitions = broker._provided[Partitions]
    assert isinstance(partitions, Partitions)
    return len(partitions.owned)


async def test_replicas_share_partitions_evenly_after_replicas_start_and_stop(
    driver: Driver,
) -> None:
    feed = asyncio.create_task(post_forever(driver))
    async with in_partitions(driver) as first, AsyncExitStack() as others:
        await eventually(lambda: partitions_owned(first) == 6, PATIENCE)
        more = [await others.enter_async_context(in_partitions(driver)) for _ in range(2)]
        replicas = [first, *more]
        await eventually(
            lambda: [partitions_owned(replica) for replica in replicas] == [2, 2, 2], PATIENCE
        )
        await others.aclose()
        await eventually(lambda: partitions_owned(first) == 6, PATIENCE)
        feed.cancel()


async def post_forever(driver: Driver) -> None:
    for number in count():
        # Many people, so that every slot gets webhooks.
        await driver.post(f"e-{number}", distinct_id=f"p{number}", in_order=True)


async def test_a_partition_that_fails_ends_the_replica(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()
    stop = Partitions.stop

    async def fail(_self: Partition) -> None:
        raise RuntimeError("defect")

    async def stop_and_record(partitions: Partitions) -> None:
        await stop(partitions)
        stopped.set()

    monkeypatch.setattr(Partition, "run", fail)
    monkeypatch.setattr(Partitions, "stop", stop_and_record)
    with pytest.raises(RuntimeError, match="defect"):
        async with in_partitions(driver):
            await eventually(stopped.is_set)


async def test_a_changed_number_of_partitions_loses_no_event_and_keeps_the_order(
    driver: Driver,
) -> None:
    async with in_partitions(driver, 6):
        await post(driver, range(100))
        # The first replica keeps running beside the second, and no longer consumes.
        async with in_partitions(driver, 4):
            await post(driver, range(100, 200))
            await driver.drained()
    # A single partition consumes webhooks that were queued for several, too.
    await post(driver, range(200, 260))
    async with in_partitions(driver, 1):
        events = await driver.events(260)
    assert_in_order(events)
    names = {
        consumer.name for consumer in await driver.operator.js.consumers_info(StreamName.WEBHOOKS)
    }
    assert names == {"ingest", "partition-0-of-1"}


async def test_webhooks_that_were_queued_without_a_slot_are_consumed_first(driver: Driver) -> None:
    await post(driver, [0], in_order=False)
    js = driver.operator.js
    await js.add_consumer(StreamName.WEBHOOKS, INGEST_CONSUMER)
    reading = await js.pull_subscribe_bind(consumer="ingest", stream=StreamName.WEBHOOKS)
    (in_flight,) = await reading.fetch(1, timeout=PATIENCE)
    await post(driver, [PERSONS])
    async with in_partitions(driver):
        # Later webhooks without a slot are consumed while the first is in flight.
        await post(driver, [1, 2, 3], in_order=False)
        await eventually(lambda: driver.stored(3))
        assert not await driver.stored(4)
        await in_flight.nak()
        assert_in_order(await driver.events(5))


async def test_the_stream_accepts_slots_again_after_a_replica_of_the_previous_version_changed_it(
    driver: Driver,
) -> None:
    async with in_partitions(driver) as replica:
        config = (await driver.operator.js.stream_info(StreamName.WEBHOOKS)).config
        await driver.operator.js.update_stream(config.evolve(subjects=["hogsend.webhooks.*"]))

        async def accepted() -> bool:
            try:
                await driver.post(in_order=True)
            except HogsendError:
                return False
            return True

        await eventually(accepted)
        assert len(await driver.events(1)) == 1
        assert replica.running
