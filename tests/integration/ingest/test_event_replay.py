"""A replay reaches one durable alone, and leaves consumers and streams as they were before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, tzinfo
from typing import Any
from unittest.mock import AsyncMock, patch

import msgspec
import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.client.client import Client
from hogsend.contract.consumers import MIRROR
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.contract.headers import REPLAY, message_id
from hogsend.contract.replays import INGEST_REPLAY_EVENTS, EventsReplayed, ReplayEvents
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.metrics import FAILURES
from services.ingest.app import MIGRATIONS
from services.ingest.erasure.freshness import FRESH_SECONDS
from services.ingest.erasure.person import Person
from services.ingest.erasure.sweep import Erased, sweep
from services.ingest.replay import announced, replayer
from services.ingest.replay.consumers import ReplayConsumers
from services.ingest.replay.replayer import EventReplayer, ReplayPosition
from tests.integration import harness
from tests.integration.ingest.driver import Driver
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS

MAILER, EVERYTHING, UNFILTERED = "mailer", "everything", "unfiltered"
SINCE, UNTIL = datetime(2026, 1, 1, 10, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(hour: int) -> str:
    return f"2026-01-01T{hour:02}:00:00.000000Z"


@pytest.fixture
async def ingest(driver: Driver) -> AsyncIterator[ServiceBroker]:
    """Four events that three durables have read; two match the mailer's filter and the span."""
    for hour, name in ((9, "signed_up"), (10, "signed_up"), (11, "left"), (11, "signed_up")):
        await driver.post(
            f"{name}-{hour}",
            event=name,
            timestamp=at(hour),
            received_at=at(hour),
            person={"properties": {"email": "anna@example.com"}},
        )
    async with driver.replica():
        await driver.drained()
    js = await driver.operator.js_for(StreamName.EVENTS)
    for name, pattern in (
        (MAILER, "hogsend.events.signed_up"),
        (EVERYTHING, "hogsend.events.*"),
        (UNFILTERED, None),
    ):
        await js.add_consumer(StreamName.EVENTS, durable(name, pattern))
        assert await fetch_all(driver, name)
    async with driver.serving_requests() as broker:
        yield broker


@pytest.fixture
async def stepwise_replayer(driver: Driver, ingest: ServiceBroker) -> AsyncIterator[EventReplayer]:
    """The replayer of another replica, which replays one small part for each request."""
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    yield EventReplayer(database, ingest.link, ingest.link.publisher, budget_seconds=0)
    await database.close()


def durable(name: str, pattern: str | None) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name, filter_subject=pattern, ack_policy=AckPolicy.EXPLICIT, ack_wait=60
    )


async def pending(driver: Driver, name: str) -> int:
    info = await driver.operator.js.consumer_info(StreamName.EVENTS, name)
    return info.num_pending or 0


async def fetch_all(driver: Driver, name: str) -> list[Msg]:
    """Fetch and acknowledge all pending messages of a durable."""
    count = await pending(driver, name)
    if not count:
        return []
    source = await driver.operator.js.pull_subscribe_bind(name, stream=StreamName.EVENTS)
    messages = await source.fetch(count, timeout=PATIENCE_SECONDS)
    for message in messages:
        await message.ack_sync()
    await source.unsubscribe()
    return messages


async def replay(driver: Driver, to: str = MAILER, **fields: Any) -> EventsReplayed:
    request = ReplayEvents(durable=to, **{"since": SINCE, "until": UNTIL, **fields})
    return await driver.gateway.request(INGEST_REPLAY_EVENTS, request)


async def filters(driver: Driver) -> dict[str, Any]:
    return {
        info.name: info.config.filter_subjects or info.config.filter_subject
        for info in await driver.operator.js.consumers_info(StreamName.EVENTS)
    }


async def test_a_replay_delivers_the_events_of_a_span_to_one_durable_only(
    servers: Servers, driver: Driver, ingest: ServiceBroker
) -> None:
    before = await driver.operator.js.stream_info(StreamName.EVENTS)
    counted = await replay(driver, dry_run=True)
    assert (counted.count, counted.after) == (2, None)
    assert (await driver.operator.js.stream_info(StreamName.EVENTS)).state == before.state

    done = await replay(driver)
    assert (done.count, done.waiting, done.after) == (2, 2, None)
    # A program that starts meanwhile gets its durable, from Hogsend's client or any other.
    async with harness.connected(servers, User.SUBSCRIBER) as connection:
        events = Client(connection).events("signed_up", durable=MAILER)
        replayed = [await anext(events) for _ in range(2)]
        assert [event.id for event in replayed] == ["signed_up-10", "signed_up-11"]
        assert [event.email for event in replayed] == ["anna@example.com"] * 2
        js = connection.js
        for name, pattern in ((MAILER, "hogsend.events.signed_up"), (UNFILTERED, None)):
            await js.add_consumer(StreamName.EVENTS, durable(name, pattern))
    assert not await pending(driver, EVERYTHING)
    assert not await pending(driver, UNFILTERED)


async def test_a_replayed_copy_has_the_id_of_its_event_and_of_its_replay(
    driver: Driver, ingest: ServiceBroker
) -> None:
    first, second = await replay(driver), await replay(driver)
    copies = await fetch_all(driver, MAILER)
    ids = [message_id(copy.headers or {}) for copy in copies]
    assert len(ids) == 4
    assert ids[:2] == ids[2:]
    marks = [(copy.headers or {})[REPLAY] for copy in copies]
    assert marks == [first.id] * 2 + [second.id] * 2


async def test_an_erasure_deletes_replayed_copies_and_keeps_the_erasure_message(
    driver: Driver, ingest: ServiceBroker
) -> None:
    erasure = b'{"contactId":"anna"}'
    await driver.operator.js.publish("hogsend.contacts.anna.erased", erasure)
    await replay(driver)
    anna = Erased(Person(frozenset({"anna"}), frozenset()), datetime.now(UTC))
    deleted = [about async for about in sweep(ingest.link, [anna])]
    assert deleted == [[anna]] * (4 + 2)
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, ">")).state
    assert state.subjects == {"hogsend.contacts.anna.erased": 1}


@pytest.mark.parametrize("year", [1, 1000, 1970])
async def test_a_replay_may_start_before_the_first_event(
    driver: Driver, ingest: ServiceBroker, year: int
) -> None:
    since = datetime(year, 1, 1, tzinfo=UTC)
    assert (await replay(driver, since=since, dry_run=True)).count == 3
    assert (await replay(driver, since=since)).count == 3


async def test_events_that_the_stream_no_longer_has_are_replayed_from_the_database(
    driver: Driver, ingest: ServiceBroker
) -> None:
    await driver.operator.js.purge_stream(StreamName.EVENTS)
    assert (await replay(driver, dry_run=True)).count == 2
    assert (await replay(driver)).count == 2
    copies = [copy.data for copy in await fetch_all(driver, MAILER)]
    assert [b'"signed_up-10"' in copies[0], b'"signed_up-11"' in copies[1]] == [True, True]


async def test_each_event_is_replayed_once_across_the_start_of_the_stream(
    driver: Driver, ingest: ServiceBroker
) -> None:
    # The stream still has the last event, but not the one that happened within the same hour.
    await driver.operator.js.purge_stream(StreamName.EVENTS, seq=4)
    assert (await replay(driver, dry_run=True)).count == 2
    assert (await replay(driver)).count == 2
    copies = await fetch_all(driver, MAILER)
    assert [b'"signed_up-10"' in copies[0].data, b'"signed_up-11"' in copies[1].data] == [True] * 2
    assert b"anna@example.com" in copies[1].data, "the copy is the published message"


async def test_filters_and_stream_are_restored_after_a_replay(
    driver: Driver, stepwise_replayer: EventReplayer
) -> None:
    before = await filters(driver)
    await replay(driver)
    await stepwise_replayer.tidy()
    assert await pending(driver, MAILER) == 2, "pending copies are kept"
    await fetch_all(driver, MAILER)
    await stepwise_replayer.tidy()
    # The unfiltered durable keeps filters that match the same messages by name.
    assert await filters(driver) == before | {
        UNFILTERED: ["hogsend.events.*", "hogsend.contacts.*.erased"]
    }
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")).state
    assert not state.subjects

    await replay(driver)
    await (await driver.operator.js_for(StreamName.EVENTS)).delete_consumer(
        StreamName.EVENTS, MAILER
    )
    # A durable may be missing from JetStream's list once by mistake: copies go at the second time.
    for has_copies in (True, False):
        await stepwise_replayer.tidy()
        info = await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")
        assert bool(info.state.subjects) is has_copies


@pytest.mark.parametrize("by_ingest", [True, False])
async def test_a_durable_with_a_wildcard_filter_receives_its_events_and_no_copy(
    servers: Servers, driver: Driver, ingest: ServiceBroker, by_ingest: bool
) -> None:
    config = durable("wildcard", "hogsend.*.signed_up")
    async with harness.connected(servers, User.SUBSCRIBER) as connection:
        js = connection.js if by_ingest else await driver.operator.js_for(StreamName.EVENTS)
        await js.add_consumer(StreamName.EVENTS, config)
        temporary = ConsumerConfig(
            name="temporary", filter_subject="hogsend.*.left", inactive_threshold=60
        )
        for _ in range(2):
            await connection.js.add_consumer(StreamName.EVENTS, temporary)
        assert len(await fetch_all(driver, "wildcard")) == 3
        await replay(driver, EVERYTHING)
        assert not await pending(driver, "wildcard")
        assert (await filters(driver))["wildcard"] == "hogsend.events.signed_up"
        # A program that starts again requests the same consumer as before.
        await connection.js.add_consumer(StreamName.EVENTS, config)


@pytest.mark.parametrize("user", [User.APP, User.SUBSCRIBER])
async def test_the_subjects_of_a_replay_do_not_reveal_the_name_of_its_durable(
    servers: Servers, driver: Driver, ingest: ServiceBroker, user: User
) -> None:
    await replay(driver)
    async with harness.connected(servers, user) as connection:
        for pattern in ("hogsend.replays.*", ">"):
            request = msgspec.json.encode({"subjects_filter": pattern, "deleted_details": True})
            reply = await connection.request_raw("$JS.API.STREAM.INFO.EVENTS", request, seconds=5)
            assert b"hogsend.replays." in reply.data
            assert MAILER.encode() not in reply.data
    for copy in await fetch_all(driver, MAILER):
        assert MAILER not in f"{copy.subject} {copy.headers}"


async def test_a_replay_skips_no_event_that_the_durable_has_not_read(
    driver: Driver, stepwise_replayer: EventReplayer
) -> None:
    """Older servers skip events when one of several subjects of a durable is purged."""
    js = await driver.operator.js_for(StreamName.EVENTS)
    purge = AsyncMock(side_effect=AssertionError("copies are not purged"))
    with patch.object(JetStreamContext, "purge_stream", purge):
        for part in (b"1", b"2"):
            await js.publish("hogsend.events.signed_up", part)
            replayed = await stepwise_replayer.replay(
                ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL)
            )
            await stepwise_replayer.tidy()
            read = [message.data for message in await fetch_all(driver, MAILER)]
            assert read[0] == part
            assert len(read) == 1 + replayed.count
            await stepwise_replayer.tidy()
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")).state
    assert not state.subjects


async def test_a_replay_of_an_earlier_version_whose_subject_named_the_durable_is_finished(
    servers: Servers, driver: Driver, stepwise_replayer: EventReplayer
) -> None:
    before, old_subject = await filters(driver), f"hogsend.replays.{MAILER}"
    js = await driver.operator.js_for(StreamName.EVENTS)
    opened = durable(MAILER, None)
    opened.filter_subjects = ["hogsend.events.signed_up", old_subject]
    await js.add_consumer(StreamName.EVENTS, opened)
    await js.publish(old_subject, b"1")
    await js.publish("hogsend.replays.nobody", b"nobody's")
    await stepwise_replayer.tidy()
    async with harness.connected(servers, User.SUBSCRIBER) as connection:
        config = durable(MAILER, "hogsend.events.signed_up")
        await connection.js.add_consumer(StreamName.EVENTS, config)
    assert (
        await stepwise_replayer.replay(ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL))
    ).waiting > 0
    await stepwise_replayer.tidy()
    copies = await fetch_all(driver, MAILER)
    assert copies[0].data == b"1"
    await stepwise_replayer.tidy()
    assert (await filters(driver))[MAILER] == before[MAILER]
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")).state
    assert not state.subjects


async def test_replays_to_two_durables_run_at_the_same_time(
    driver: Driver, stepwise_replayer: EventReplayer
) -> None:
    await replay(driver)
    await replay(driver, EVERYTHING)
    await stepwise_replayer.tidy()
    assert len(await fetch_all(driver, MAILER)) == 2
    assert len(await fetch_all(driver, EVERYTHING)) == 3


async def test_a_failed_cleanup_of_one_durable_is_counted_and_does_not_stop_the_others(
    driver: Driver, stepwise_replayer: EventReplayer
) -> None:
    before = await filters(driver)
    delete = ReplayConsumers.delete_acknowledged

    async def refused_for_the_mailer(consumers: ReplayConsumers, durable: str) -> int:
        if durable == MAILER:
            raise Unavailable("JetStream refuses")
        return await delete(consumers, durable)

    for durable in (MAILER, EVERYTHING):
        await replay(driver, durable)
        await fetch_all(driver, durable)
    failures = FAILURES.labels("replay", Unavailable.code)
    failures_before = failures._value.get()
    with patch.object(ReplayConsumers, "delete_acknowledged", refused_for_the_mailer):
        await stepwise_replayer.tidy()
    assert failures._value.get() == failures_before + 1
    after = await filters(driver)
    assert (after[MAILER] == before[MAILER], after[EVERYTHING]) == (False, before[EVERYTHING])


async def test_a_durable_that_reads_only_copies_is_not_changed_to_read_everything(
    driver: Driver, stepwise_replayer: EventReplayer
) -> None:
    js = await driver.operator.js_for(StreamName.EVENTS)
    await js.add_consumer(StreamName.EVENTS, durable("curious", "hogsend.replays.*"))
    with pytest.raises(InvalidRequest, match="'curious' reads copies of replays and nothing else"):
        await replay(driver)
    await stepwise_replayer.tidy()
    assert (await filters(driver))["curious"] == "hogsend.replays.*"
    assert (await filters(driver))[MAILER] == "hogsend.events.signed_up"


async def test_a_replay_in_parts_waits_until_the_durable_has_acknowledged_its_copies(
    driver: Driver, stepwise_replayer: EventReplayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "BATCH", 1)
    monkeypatch.setattr(replayer, "MOST_COPIES", 1)
    request = ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL)
    part = await stepwise_replayer.replay(request)
    while not part.count:
        part = await stepwise_replayer.replay(msgspec.structs.replace(request, after=part.after))
    # The durable has one copy, and gets no other before that copy is acknowledged.
    following = msgspec.structs.replace(request, after=part.after)
    for _ in range(2):
        blocked = await stepwise_replayer.replay(following)
        assert (blocked.count, blocked.waiting, blocked.after) == (0, 1, part.after)
    copies = [message.data for message in await fetch_all(driver, MAILER)]
    while part.after is not None:
        part = await stepwise_replayer.replay(msgspec.structs.replace(request, after=part.after))
        copies += [message.data for message in await fetch_all(driver, MAILER)]
    assert len(copies) == 2


async def test_an_event_that_an_erasure_deleted_after_it_was_read_is_not_replayed(
    driver: Driver, stepwise_replayer: EventReplayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was frozen in between would publish the event after the last sweep."""
    loop = asyncio.get_running_loop()
    clock, read = loop.time, stepwise_replayer._read

    async def read_before_a_freeze(request: ReplayEvents, start: ReplayPosition) -> Any:
        monkeypatch.setattr(stepwise_replayer, "_read", read)
        part = await read(request, start)
        assert part.events
        await driver.operator.js.delete_msg(StreamName.EVENTS, part.events[0].sequence)
        monkeypatch.setattr(loop, "time", lambda: clock() + FRESH_SECONDS)
        return part

    monkeypatch.setattr(stepwise_replayer, "_read", read_before_a_freeze)
    request = ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL)
    part = await stepwise_replayer.replay(request)
    assert (part.count, part.waiting) == (0, 0)
    while part.after is not None:
        part = await stepwise_replayer.replay(msgspec.structs.replace(request, after=part.after))
    (copy,) = await fetch_all(driver, MAILER)
    assert b'"signed_up-11"' in copy.data


async def test_a_replay_without_an_end_ends_now_by_postgresqls_clock(
    driver: Driver, ingest: ServiceBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime(2026, 1, 1, 11, tzinfo=tz)

    # A replayer that used its own clock would end the span before the last event.
    monkeypatch.setattr(replayer, "datetime", Behind)
    assert (await replay(driver, until=None, dry_run=True)).count == 2


async def test_a_replay_to_an_unknown_durable_or_with_invalid_arguments_is_refused(
    driver: Driver, ingest: ServiceBroker
) -> None:
    with pytest.raises(NotFound, match="no durable 'nobody'"):
        await replay(driver, "nobody")
    with pytest.raises(InvalidRequest, match="Hogsend's own"):
        await replay(driver, MIRROR)
    with pytest.raises(InvalidRequest, match="span is empty"):
        await replay(driver, until=SINCE)
    with pytest.raises(InvalidRequest, match="after must be"):
        await replay(driver, after="x")
    assert (await filters(driver))[MAILER] == "hogsend.events.signed_up"
