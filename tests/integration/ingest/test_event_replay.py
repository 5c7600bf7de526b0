"""One durable gets events again; nobody else does, and afterwards everything is as it was."""

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
    """Four events that three durables have read: two of them in the span, of the mailer's name."""
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
        assert await taken(driver, name)
    async with driver.answering() as broker:
        yield broker


@pytest.fixture
async def own(driver: Driver, ingest: ServiceBroker) -> AsyncIterator[EventReplayer]:
    """Another replica's, which gives one small part at a time."""
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


async def taken(driver: Driver, name: str) -> list[Msg]:
    """What a durable has to read, acknowledged."""
    count = await pending(driver, name)
    if not count:
        return []
    source = await driver.operator.js.pull_subscribe_bind(name, stream=StreamName.EVENTS)
    messages = await source.fetch(count, timeout=PATIENCE_SECONDS)
    for message in messages:
        await message.ack_sync()
    await source.unsubscribe()
    return messages


async def replay(driver: Driver, to: str = MAILER, **wanted: Any) -> EventsReplayed:
    asked = ReplayEvents(durable=to, **{"since": SINCE, "until": UNTIL, **wanted})
    return await driver.gateway.request(INGEST_REPLAY_EVENTS, asked)


async def filters(driver: Driver) -> dict[str, Any]:
    return {
        info.name: info.config.filter_subjects or info.config.filter_subject
        for info in await driver.operator.js.consumers_info(StreamName.EVENTS)
    }


async def test_one_durable_gets_a_span_again_and_nobody_else_anything(
    servers: Servers, driver: Driver, ingest: ServiceBroker
) -> None:
    before = await driver.operator.js.stream_info(StreamName.EVENTS)
    counted = await replay(driver, dry_run=True)
    assert (counted.count, counted.after) == (2, None)
    assert (await driver.operator.js.stream_info(StreamName.EVENTS)).state == before.state

    done = await replay(driver)
    assert (done.count, done.waiting, done.after) == (2, 2, None)
    # A program that starts meanwhile finds its durable as it asks for it: ours, and any other.
    async with harness.connected(servers, User.SUBSCRIBER) as connection:
        events = Client(connection).events("signed_up", durable=MAILER)
        replayed = [await anext(events) for _ in range(2)]
        assert [one.id for one in replayed] == ["signed_up-10", "signed_up-11"]
        assert [one.email for one in replayed] == ["anna@example.com"] * 2
        js = connection.js
        for name, pattern in ((MAILER, "hogsend.events.signed_up"), (UNFILTERED, None)):
            await js.add_consumer(StreamName.EVENTS, durable(name, pattern))
    assert not await pending(driver, EVERYTHING)
    assert not await pending(driver, UNFILTERED)


async def test_a_copy_tells_that_it_is_one_and_of_what(
    driver: Driver, ingest: ServiceBroker
) -> None:
    first, second = await replay(driver), await replay(driver)
    copies = await taken(driver, MAILER)
    known = [message_id(copy.headers or {}) for copy in copies]
    assert len(known) == 4
    assert known[:2] == known[2:]
    marks = [(copy.headers or {})[REPLAY] for copy in copies]
    assert marks == [first.id] * 2 + [second.id] * 2


async def test_copies_of_an_erased_person_go_and_what_tells_of_it_stays(
    driver: Driver, ingest: ServiceBroker
) -> None:
    told = b'{"contactId":"anna"}'
    await driver.operator.js.publish("hogsend.contacts.anna.erased", told)
    await replay(driver)
    anna = Erased(Person(frozenset({"anna"}), frozenset()), datetime.now(UTC))
    deleted = [about async for about in sweep(ingest.link, [anna])]
    assert deleted == [[anna]] * (4 + 2)
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, ">")).state
    assert state.subjects == {"hogsend.contacts.anna.erased": 1}


@pytest.mark.parametrize("year", [1, 1000, 1970])
async def test_a_replay_may_begin_with_the_first_event_there_is(
    driver: Driver, ingest: ServiceBroker, year: int
) -> None:
    since = datetime(year, 1, 1, tzinfo=UTC)
    assert (await replay(driver, since=since, dry_run=True)).count == 3
    assert (await replay(driver, since=since)).count == 3


async def test_what_the_stream_has_no_longer_comes_from_the_database(
    driver: Driver, ingest: ServiceBroker
) -> None:
    await driver.operator.js.purge_stream(StreamName.EVENTS)
    assert (await replay(driver, dry_run=True)).count == 2
    assert (await replay(driver)).count == 2
    copies = [copy.data for copy in await taken(driver, MAILER)]
    assert [b'"signed_up-10"' in copies[0], b'"signed_up-11"' in copies[1]] == [True, True]


async def test_each_event_comes_once_where_the_stream_begins(
    driver: Driver, ingest: ServiceBroker
) -> None:
    # The stream has the last of the two. Another, of the same minute, it has no longer.
    await driver.operator.js.purge_stream(StreamName.EVENTS, seq=4)
    assert (await replay(driver, dry_run=True)).count == 2
    assert (await replay(driver)).count == 2
    copies = await taken(driver, MAILER)
    assert [b'"signed_up-10"' in copies[0].data, b'"signed_up-11"' in copies[1].data] == [True] * 2
    assert b"anna@example.com" in copies[1].data, "as it was announced"


async def test_afterwards_everything_is_as_it_was(driver: Driver, own: EventReplayer) -> None:
    before = await filters(driver)
    await replay(driver)
    await own.tidy()
    assert await pending(driver, MAILER) == 2, "what waits is kept"
    await taken(driver, MAILER)
    await own.tidy()
    # What read everything reads it by name for good: that is the same.
    assert await filters(driver) == before | {
        UNFILTERED: ["hogsend.events.*", "hogsend.contacts.*.erased"]
    }
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")).state
    assert not state.subjects

    await replay(driver)
    await (await driver.operator.js_for(StreamName.EVENTS)).delete_consumer(
        StreamName.EVENTS, MAILER
    )
    # JetStream may have left the durable out of its list once.
    for left in (True, False):
        await own.tidy()
        found = await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")
        assert bool(found.state.subjects) is left


@pytest.mark.parametrize("by_ingest", [True, False])
async def test_who_reads_by_a_wildcard_gets_what_it_asked_for_and_no_copy(
    servers: Servers, driver: Driver, ingest: ServiceBroker, by_ingest: bool
) -> None:
    wanted = durable("wildcard", "hogsend.*.signed_up")
    async with harness.connected(servers, User.SUBSCRIBER) as connection:
        asks = connection.js if by_ingest else await driver.operator.js_for(StreamName.EVENTS)
        await asks.add_consumer(StreamName.EVENTS, wanted)
        temporary = ConsumerConfig(
            name="temporary", filter_subject="hogsend.*.left", inactive_threshold=60
        )
        for _ in range(2):
            await connection.js.add_consumer(StreamName.EVENTS, temporary)
        assert len(await taken(driver, "wildcard")) == 3
        await replay(driver, EVERYTHING)
        assert not await pending(driver, "wildcard")
        assert (await filters(driver))["wildcard"] == "hogsend.events.signed_up"
        # A program that starts again asks for the same as before.
        await connection.js.add_consumer(StreamName.EVENTS, wanted)


@pytest.mark.parametrize("user", [User.APP, User.SUBSCRIBER])
async def test_nobody_learns_the_name_of_a_durable_from_a_replay_to_it(
    servers: Servers, driver: Driver, ingest: ServiceBroker, user: User
) -> None:
    await replay(driver)
    async with harness.connected(servers, user) as connection:
        for pattern in ("hogsend.replays.*", ">"):
            asked = msgspec.json.encode({"subjects_filter": pattern, "deleted_details": True})
            answer = await connection.request_raw("$JS.API.STREAM.INFO.EVENTS", asked, seconds=5)
            assert b"hogsend.replays." in answer.data
            assert MAILER.encode() not in answer.data
    for copy in await taken(driver, MAILER):
        assert MAILER not in f"{copy.subject} {copy.headers}"


async def test_a_replay_skips_nothing_that_the_durable_has_not_read(
    driver: Driver, own: EventReplayer
) -> None:
    """Older servers do so when they purge a subject of a durable that reads several."""
    js = await driver.operator.js_for(StreamName.EVENTS)
    purge = AsyncMock(side_effect=AssertionError("copies are not purged"))
    with patch.object(JetStreamContext, "purge_stream", purge):
        for part in (b"1", b"2"):
            await js.publish("hogsend.events.signed_up", part)
            replayed = await own.replay(ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL))
            await own.tidy()
            read = [one.data for one in await taken(driver, MAILER)]
            assert read[0] == part
            assert len(read) == 1 + replayed.count
            await own.tidy()
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")).state
    assert not state.subjects


async def test_a_replay_of_before_ends_though_its_subject_had_the_name_of_the_durable(
    servers: Servers, driver: Driver, own: EventReplayer
) -> None:
    before, named = await filters(driver), f"hogsend.replays.{MAILER}"
    js = await driver.operator.js_for(StreamName.EVENTS)
    opened = durable(MAILER, None)
    opened.filter_subjects = ["hogsend.events.signed_up", named]
    await js.add_consumer(StreamName.EVENTS, opened)
    await js.publish(named, b"1")
    await js.publish("hogsend.replays.nobody", b"nobody's")
    await own.tidy()
    async with harness.connected(servers, User.SUBSCRIBER) as connection:
        wanted = durable(MAILER, "hogsend.events.signed_up")
        await connection.js.add_consumer(StreamName.EVENTS, wanted)
    assert (await own.replay(ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL))).waiting > 0
    await own.tidy()
    copies = await taken(driver, MAILER)
    assert copies[0].data == b"1"
    await own.tidy()
    assert (await filters(driver))[MAILER] == before[MAILER]
    state = (await driver.operator.js.stream_info(StreamName.EVENTS, "hogsend.replays.*")).state
    assert not state.subjects


async def test_two_durables_get_a_replay_at_once(driver: Driver, own: EventReplayer) -> None:
    await replay(driver)
    await replay(driver, EVERYTHING)
    await own.tidy()
    assert len(await taken(driver, MAILER)) == 2
    assert len(await taken(driver, EVERYTHING)) == 3


async def test_a_durable_that_cannot_be_tidied_up_after_is_counted_and_stops_no_other(
    driver: Driver, own: EventReplayer
) -> None:
    before = await filters(driver)
    forget = ReplayConsumers.delete_acknowledged

    async def refused_for_the_mailer(consumers: ReplayConsumers, durable: str) -> int:
        if durable == MAILER:
            raise Unavailable("JetStream refuses")
        return await forget(consumers, durable)

    for durable in (MAILER, EVERYTHING):
        await replay(driver, durable)
        await taken(driver, durable)
    counted = FAILURES.labels("replay", Unavailable.code)
    failed = counted._value.get()
    with patch.object(ReplayConsumers, "delete_acknowledged", refused_for_the_mailer):
        await own.tidy()
    assert counted._value.get() == failed + 1
    after = await filters(driver)
    assert (after[MAILER] == before[MAILER], after[EVERYTHING]) == (False, before[EVERYTHING])


async def test_who_reads_nothing_but_copies_is_not_made_to_read_everything(
    driver: Driver, own: EventReplayer
) -> None:
    js = await driver.operator.js_for(StreamName.EVENTS)
    await js.add_consumer(StreamName.EVENTS, durable("curious", "hogsend.replays.*"))
    with pytest.raises(InvalidRequest, match="'curious' reads copies of replays and nothing else"):
        await replay(driver)
    await own.tidy()
    assert (await filters(driver))["curious"] == "hogsend.replays.*"
    assert (await filters(driver))[MAILER] == "hogsend.events.signed_up"


async def test_it_is_given_in_parts_and_no_more_than_is_taken(
    driver: Driver, own: EventReplayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "BATCH", 1)
    monkeypatch.setattr(replayer, "MOST_COPIES", 1)
    wanted = ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL)
    part = await own.replay(wanted)
    while not part.count:
        part = await own.replay(msgspec.structs.replace(wanted, after=part.after))
    # It has one, and gets no other before that is acknowledged.
    goes_on = msgspec.structs.replace(wanted, after=part.after)
    for _ in range(2):
        stands = await own.replay(goes_on)
        assert (stands.count, stands.waiting, stands.after) == (0, 1, part.after)
    found = [message.data for message in await taken(driver, MAILER)]
    while part.after is not None:
        part = await own.replay(msgspec.structs.replace(wanted, after=part.after))
        found += [message.data for message in await taken(driver, MAILER)]
    assert len(found) == 2


async def test_an_event_that_an_erasure_deleted_after_it_was_read_is_not_replayed(
    driver: Driver, own: EventReplayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was frozen in between would publish it after the erasure's last sweep."""
    loop = asyncio.get_running_loop()
    clock, read = loop.time, own._read

    async def read_before_a_freeze(request: ReplayEvents, start: ReplayPosition) -> Any:
        monkeypatch.setattr(own, "_read", read)
        part = await read(request, start)
        assert part.events
        await driver.operator.js.delete_msg(StreamName.EVENTS, part.events[0].sequence)
        monkeypatch.setattr(loop, "time", lambda: clock() + FRESH_SECONDS)
        return part

    monkeypatch.setattr(own, "_read", read_before_a_freeze)
    request = ReplayEvents(durable=MAILER, since=SINCE, until=UNTIL)
    part = await own.replay(request)
    assert (part.count, part.waiting) == (0, 0)
    while part.after is not None:
        part = await own.replay(msgspec.structs.replace(request, after=part.after))
    (copy,) = await taken(driver, MAILER)
    assert b'"signed_up-11"' in copy.data


async def test_one_without_an_end_ends_now_by_a_clock_that_is_behind(
    driver: Driver, ingest: ServiceBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime(2026, 1, 1, 11, tzinfo=tz)

    # What does not ask for the time needs no other clock.
    monkeypatch.setattr(replayer, "datetime", Behind)
    assert (await replay(driver, until=None, dry_run=True)).count == 2


async def test_who_cannot_be_meant_is_refused(driver: Driver, ingest: ServiceBroker) -> None:
    with pytest.raises(NotFound, match="no durable 'nobody'"):
        await replay(driver, "nobody")
    with pytest.raises(InvalidRequest, match="Hogsend's own"):
        await replay(driver, MIRROR)
    with pytest.raises(InvalidRequest, match="span is empty"):
        await replay(driver, until=SINCE)
    with pytest.raises(InvalidRequest, match="after must be"):
        await replay(driver, after="x")
    assert (await filters(driver))[MAILER] == "hogsend.events.signed_up"
