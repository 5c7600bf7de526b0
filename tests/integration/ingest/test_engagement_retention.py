"""A report stays in ENGAGEMENT until every consumer has acknowledged it, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

import msgspec
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.destinations import EngagementReaders
from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import ENGAGEMENT_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.engagement_readers import KnownReaders
from services.ingest.engagement_retention import EngagementRetention
from tests.integration.harness import connected
from tests.integration.ingest.driver import Driver
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

INGEST = "ingest"
"""The consumer that records reports."""
REPORTS = 200
STREAM = StreamName.ENGAGEMENT
OPENED = subjects.engagement("email.opened")


class NoMissingReaders:
    async def missing(self, _present: Collection[str]) -> set[str]:
        return set()


async def report(driver: Driver, number: int) -> None:
    body = {"id": f"r-{number}", "data": {"userId": "anna", "to": "a@b.com"}}
    await driver.operator.js.publish(OPENED, msgspec.json.encode(body))


async def messages_in_stream(driver: Driver) -> int:
    return (await driver.operator.js.stream_info(STREAM)).state.messages


async def test_reports_outlive_the_consumer_that_records_them(driver: Driver) -> None:
    async def lose_the_consumer() -> None:
        for _ in range(5):
            await eventually(lambda: _has_consumer(driver))
            await driver.operator.js.delete_consumer(STREAM, INGEST)

    async with driver.replica():
        losing = asyncio.create_task(lose_the_consumer())
        for number in range(REPORTS):
            await report(driver, number)
        await losing
        await driver.drained()
    assert await driver.count("events") == REPORTS


async def test_a_report_stays_until_every_consumer_has_acknowledged_it(
    driver: Driver, servers: Servers
) -> None:
    js = driver.operator.js
    await js.add_consumer(
        STREAM,
        ConsumerConfig(durable_name="slow", filter_subject=OPENED, ack_policy=AckPolicy.EXPLICIT),
    )
    await js.add_consumer(
        STREAM,
        ConsumerConfig(durable_name="elsewhere", filter_subject=subjects.engagement("bucket.*")),
    )
    for number in range(3):
        await report(driver, number)
    slow = await js.pull_subscribe_bind(consumer="slow", stream=STREAM)
    async with connected(servers, User.INGEST) as ingest:
        retention = EngagementRetention(ingest, NoMissingReaders())
        await retention.trim()
        # The reports are not recorded yet, because ingest's consumer does not exist.
        assert await messages_in_stream(driver) == 3
        await js.add_consumer(STREAM, ENGAGEMENT_CONSUMER)
        recording = await js.pull_subscribe_bind(consumer=INGEST, stream=STREAM)
        for message in await recording.fetch(3, timeout=PATIENCE_SECONDS):
            await message.ack_sync()
        await retention.trim()
        assert await messages_in_stream(driver) == 3
        first, second, _ = await slow.fetch(3, timeout=PATIENCE_SECONDS)
        await first.ack_sync()
        await retention.trim()
        assert await messages_in_stream(driver) == 2
        await second.ack_sync()
        await retention.trim()
        assert await messages_in_stream(driver) == 1


class Analytics:
    """A fake of analytics that lists its durables; unavailable while `durables` is None."""

    def __init__(self) -> None:
        self.durables: list[str] | None = None

    async def request(self, _endpoint: object, _message: object) -> EngagementReaders:
        if self.durables is None:
            raise Unavailable("the analytics service is not running")
        return EngagementReaders(self.durables)


async def test_a_reader_is_remembered_until_analytics_no_longer_lists_it(
    database_url: str,
) -> None:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    analytics = Analytics()
    readers = KnownReaders(cast("Any", analytics), database)
    assert await readers.missing({"buckets", "destination-1"}) == set()
    after_a_restart = KnownReaders(cast("Any", analytics), database)
    with pytest.raises(Unavailable):
        await after_a_restart.missing({"buckets"})
    analytics.durables = ["buckets", "destination-1", "destination-2"]
    assert await after_a_restart.missing({"buckets"}) == {"destination-1"}
    analytics.durables = ["buckets"]
    assert await after_a_restart.missing({"buckets"}) == set()
    analytics.durables = None
    assert await readers.missing({"buckets"}) == set()
    # The remedy of docs/runbooks/HogsendStreamNearlyFull.md when analytics was removed.
    with pytest.raises(Unavailable):
        await readers.missing(set())
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM ingest.engagement_readers")
    assert await readers.missing(set()) == set()
    await database.close()


async def _has_consumer(driver: Driver) -> bool:
    names: list[Any] = [
        consumer.name for consumer in await driver.operator.js.consumers_info(STREAM)
    ]
    return INGEST in names
