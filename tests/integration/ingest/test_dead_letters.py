"""Dead letters can be seen, put back and forgotten, and none is lost on the way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from unittest.mock import patch

import msgspec
import nats.errors
import pytest

from hogsend.contract import subjects
from hogsend.contract.dead_letters import (
    INGEST_DEAD_LETTERS,
    INGEST_PURGE,
    INGEST_REPLAY,
    DeadLetter,
    DeadLetterPage,
    DeadLettersDone,
    ListDeadLetters,
    PurgeDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.contract.headers import ORIGINAL_ID, message_id
from hogsend.contract.streams import StreamName
from services.ingest.dead_letters import replay as replaying
from services.ingest.dead_letters.stream import LetterStream
from tests.integration.ingest.world import World

GOOD = b'{"event":{"event":"signed_up","distinct_id":"anna","uuid":"u-1"}}'


async def listed(world: World, **wanted: object) -> DeadLetterPage:
    return await world.gateway.request(
        INGEST_DEAD_LETTERS, msgspec.convert(wanted, ListDeadLetters)
    )


async def replay(world: World, **wanted: object) -> DeadLettersDone:
    return await world.gateway.request(INGEST_REPLAY, msgspec.convert(wanted, ReplayDeadLetters))


async def purge(world: World, **wanted: object) -> DeadLettersDone:
    return await world.gateway.request(INGEST_PURGE, msgspec.convert(wanted, PurgeDeadLetters))


async def bury(
    world: World,
    body: bytes = GOOD,
    *,
    stream: str = StreamName.WEBHOOKS,
    subject: str = "hogsend.webhooks.posthog",
    reason: str = "outage",
    **headers: str,
) -> int:
    """Set a message aside by hand, and give the letter's sequence."""
    letter = DeadLetter(
        id="by-hand",
        stream=stream,
        subject=subject,
        reason=reason,
        detail="the database was away",
        attempts=3,
        failed_at=datetime(2026, 1, 1, tzinfo=UTC),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
    )
    ack = await world.operator.js.publish(subjects.dead_letter(stream), msgspec.json.encode(letter))
    return ack.seq


def sequences(page: DeadLetterPage) -> list[int]:
    return [letter.sequence for letter in page.dead_letters]


async def test_a_malformed_webhook_is_listed_and_its_replay_comes_back_as_another(
    world: World,
) -> None:
    async with world.replica():
        await world.queue(b"nonsense \xff\x00", Nats_Msg_Id="p-1")
        await world.dead_letters(1)
        (first,) = (await listed(world)).dead_letters
        assert (first.stream, first.reason, first.size) == ("WEBHOOKS", "malformed", 11)
        assert first.body is None
        assert (await listed(world, sequence=first.sequence)).dead_letters[0].body == "nonsense �\0"
        assert await replay(world, sequence=first.sequence) == DeadLettersDone(count=1)
        (letter,) = await world.dead_letters(1)
        (second,) = (await listed(world)).dead_letters
        assert second.sequence > first.sequence
        assert letter.body == b"nonsense \xff\x00"
        # The id it came with is what it is known by, however often it goes round.
        assert message_id(letter.headers) == "p-1"
        assert await replay(world) == DeadLettersDone(count=1)
        (letter,) = await world.dead_letters(1)
        assert message_id(letter.headers) == "p-1"


async def test_a_replayed_webhook_is_stored_and_announced_under_its_own_id(world: World) -> None:
    sequence = await bury(
        world,
        Nats_Msg_Id="delivery-1",
        Hogsend_Received_At="2026-01-01T00:00:00.000000Z",
        Hogsend_Correlation_Id="c-1",
    )
    async with world.replica():
        assert await replay(world, sequence=sequence) == DeadLettersDone(count=1)
        (event,) = await world.events(1)
        assert await world.dead_letters(0) == []
    assert event.id == "delivery-1"
    assert event.received_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert await world.rows.fetchval("SELECT count(*) FROM ingest.events") == 1


async def test_a_webhook_without_an_id_keeps_the_one_made_from_it(world: World) -> None:
    sequence = await bury(world)
    async with world.replica():
        await world.queue(GOOD)
        await world.events(1)
        await replay(world, sequence=sequence)
        (event,) = await world.events(1)
    assert event.id == "u-1"
    assert await world.count("events") == 1


async def test_a_replay_within_the_deduplication_window_of_the_first_delivery_arrives(
    world: World,
) -> None:
    # As it would be in an outage of minutes: JetStream still remembers the id.
    await world.queue(GOOD.replace(b"signed_up", b"opened"), Nats_Msg_Id="d-1")
    await world.operator.js.purge_stream(StreamName.WEBHOOKS)
    await bury(world, Nats_Msg_Id="d-1")
    async with world.replica():
        assert (await replay(world, stream="WEBHOOKS")).count == 1
        (event,) = await world.events(1)
    assert (event.id, event.event) == ("d-1", "signed_up")


async def test_what_crashed_before_the_letter_was_deleted_is_replayed_again_to_no_effect(
    world: World,
) -> None:
    sequence = await bury(world, Nats_Msg_Id="d-1")
    away = Unavailable("JetStream did not answer")
    async with world.prepared():
        with patch.object(LetterStream, "delete", side_effect=away):
            with pytest.raises(Unavailable, match="replaying it again does no harm"):
                await replay(world, sequence=sequence)
            (kept,) = (await replay(world)).kept
            assert (kept.reason, kept.count) == ("not_deleted", 1)
        queued = await world.operator.js.stream_info(StreamName.WEBHOOKS)
        assert queued.state.messages == 1
        # Later than JetStream remembers, the key in PostgreSQL stands behind it.
        with patch.object(replaying, "_headers", lambda _letter: {ORIGINAL_ID: "d-1"}):
            assert (await replay(world)).count == 1
        queued = await world.operator.js.stream_info(StreamName.WEBHOOKS)
        assert queued.state.messages == 2
    async with world.replica():
        await world.events(1)
    assert await world.count("events") == 1


async def test_control_headers_of_the_first_publish_do_not_count_again(world: World) -> None:
    await bury(world, Nats_Msg_Id="d-1", Nats_Expected_Last_Sequence="12345", Nats_Rollup="all")
    async with world.replica():
        assert (await replay(world)).count == 1
        await world.events(1)


async def test_a_letter_without_its_message_stays_and_the_others_go(world: World) -> None:
    empty = await bury(world, b"", reason="too_large_for_bus")
    await bury(world, Nats_Msg_Id="d-1")
    foreign = await bury(world, stream="GONE", subject="hogsend.gone.now")
    await bury(world, stream="WEBHOOKS", subject="hogsend.webhooks.*")
    await bury(world, stream="WEBHOOKS", subject="hogsend.credentials.posthog.changed")
    async with world.replica():
        with pytest.raises(InvalidRequest, match="too large for the bus"):
            await replay(world, sequence=empty)
        with pytest.raises(InvalidRequest, match="no stream GONE takes"):
            await replay(world, sequence=foreign)
        done = await replay(world)
        await world.events(1)
        assert len(await world.dead_letters(4)) == 4
    assert done.count == 1
    assert [(kept.reason, kept.count, kept.first_sequence) for kept in done.kept] == [
        ("no_body", 1, empty),
        ("not_replayable", 3, foreign),
    ]


async def test_a_letter_whose_stream_is_gone_stays(world: World) -> None:
    # The stream of person writes is the analytics service's, which does not run here.
    sequence = await bury(world, b"{}", stream="PERSONS", subject="hogsend.persons.set")
    await bury(world, Nats_Msg_Id="d-1")
    async with world.replica():
        with pytest.raises(Unavailable, match="PERSONS does not take it now, or does not exist"):
            await replay(world, sequence=sequence)
        with pytest.raises(Unavailable, match="PERSONS"):
            await replay(world, stream="PERSONS")
        done = await replay(world)
        await world.events(1)
        assert sequences(await listed(world)) == [sequence]
    assert (done.count, [kept.reason for kept in done.kept]) == (1, ["unavailable"])


async def test_two_replays_and_a_purge_at_once_lose_nothing(world: World) -> None:
    count = 300
    for number in range(count):
        await bury(world, GOOD.replace(b"u-1", b"u-%d" % number), Nats_Msg_Id=f"d-{number}")
    async with world.replica():
        await asyncio.gather(replay(world), replay(world))
        await world.events(count)
        assert await world.dead_letters(0) == []
        sequence = await bury(world, b"nonsense")
        outcomes = await asyncio.gather(
            *(replay(world, sequence=sequence) for _ in range(3)),
            purge(world, sequence=sequence),
            purge(world),
            return_exceptions=True,
        )
    assert all(isinstance(one, DeadLettersDone | NotFound) for one in outcomes)
    assert await world.count("events") == count


async def test_pages_go_from_the_newest_to_the_oldest_over_gaps(world: World) -> None:
    for number in range(30):
        await bury(
            world,
            stream=("WEBHOOKS", "ENGAGEMENT")[number % 2],
            reason=("outage", "malformed", "rejected")[number % 3],
        )
    for gap in (1, 2, *range(10, 20), 30):
        await world.operator.js.delete_msg(StreamName.DEADLETTER, gap)
    left = [29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 9, 8, 7, 6, 5, 4, 3]
    async with world.prepared():
        for wanted, expected in (
            ({}, left),
            ({"stream": "WEBHOOKS"}, [one for one in left if one % 2]),
            ({"stream": "EVENTS"}, []),
            ({"reason": "malformed"}, [one for one in left if one % 3 == 2]),
            ({"stream": "ENGAGEMENT", "reason": "outage"}, [28, 22, 4]),
        ):
            found: list[int] = []
            before = None
            while True:
                page = await listed(world, **wanted, limit=4, before=before)
                assert page.total == len(expected)
                found += sequences(page)
                before = page.next_before
                if before is None:
                    break
                assert len(page.dead_letters) == 4
            assert found == expected
        assert sequences(await listed(world, sequence=20, stream="ENGAGEMENT")) == [20]
        for wrong in (
            {"sequence": 20, "stream": "WEBHOOKS"},
            {"sequence": 20, "reason": "outage"},
            {"sequence": 19},
            {"sequence": 31},
            {"sequence": 0},
            {"sequence": -1},
            {"sequence": 2**64},
        ):
            with pytest.raises(NotFound):
                await listed(world, **wrong)


async def test_answers_fit_the_bus_however_large_the_letters_are(world: World) -> None:
    # Control characters take six bytes each in JSON.
    limit = world.gateway.max_payload
    sequence = await bury(world, b"\1" * (limit // 2))
    for _ in range(99):
        await bury(world, b"x", subject="s" * 3000, reason="r" * (limit // 40))
    async with world.prepared():
        (letter,) = (await listed(world, sequence=sequence)).dead_letters
        assert letter.cut
        assert letter.body is not None
        assert limit // 8 < len(letter.body) < letter.size == limit // 2
        first = await listed(world, limit=100)
        assert 10 < len(first.dead_letters) < 100
        second = await listed(world, limit=100, before=first.next_before)
        assert sequences(second)[0] == sequences(first)[-1] - 1


async def test_purging_by_filter_leaves_the_others(world: World) -> None:
    kept = await bury(world, stream="ENGAGEMENT", reason="malformed")
    for _ in range(3):
        await bury(world, reason="malformed")
        await bury(world, reason="outage")
    async with world.prepared():
        with pytest.raises(NotFound):
            await purge(world, sequence=kept, stream="WEBHOOKS")
        assert (await purge(world, stream="WEBHOOKS", reason="malformed")).count == 3
        assert (await listed(world)).total == 4
        assert (await purge(world, stream="WEBHOOKS")).count == 3
        assert sequences(await listed(world)) == [kept]
        assert (await purge(world, sequence=kept)).count == 1
        assert (await purge(world)).count == 0
        await bury(world)
        await bury(world)
        assert (await purge(world)).count == 2
        assert (await listed(world)).total == 0


@pytest.mark.parametrize("stream", ["*", ">", "WEBHOOKS.*", "a b", "", "é", "x" * 300])
async def test_a_wildcard_is_no_stream(world: World, stream: str) -> None:
    await bury(world)
    async with world.prepared():
        for ask in (listed, replay, purge):
            with pytest.raises(InvalidRequest, match="name of a stream"):
                await ask(world, stream=stream)
        assert (await listed(world)).total == 1


async def test_what_is_no_dead_letter_is_listed_and_purged_but_not_replayed(world: World) -> None:
    await world.operator.js.publish(subjects.dead_letter("WEBHOOKS"), b"\xff{")
    await bury(world)
    async with world.prepared():
        page = await listed(world, stream="WEBHOOKS")
        assert [letter.reason for letter in page.dead_letters] == ["outage", "unreadable"]
        with pytest.raises(InvalidRequest):
            await replay(world, sequence=page.dead_letters[1].sequence)
        assert (await purge(world, reason="unreadable")).count == 1


async def test_ingest_may_read_and_delete_dead_letters_only(world: World) -> None:
    await world.post()
    async with world.prepared() as (bus, _):
        for verb in ("STREAM.MSG.DELETE", "STREAM.PURGE", "DIRECT.GET"):
            with pytest.raises(nats.errors.TimeoutError):
                await bus.client.request(f"$JS.API.{verb}.WEBHOOKS", b'{"seq":1}', timeout=0.5)
        with pytest.raises(nats.errors.TimeoutError):
            await bus.client.request("$JS.API.STREAM.DELETE.DEADLETTER", b"", timeout=0.5)
    info = await world.operator.js.stream_info(StreamName.WEBHOOKS)
    assert info.state.messages == 1
