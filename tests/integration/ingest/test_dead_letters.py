"""Dead letters are listed, replayed and purged, and none is lost in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import product
from unittest.mock import patch

import msgspec
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
    read_letter,
)
from hogsend.contract.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from hogsend.contract.headers import ORIGINAL_ID, message_id
from hogsend.contract.streams import StreamName
from services.ingest.dead_letters import replay as replaying
from services.ingest.dead_letters.stream import DeadLetterStream
from tests.integration.ingest.driver import Driver
from tests.waiting import PATIENCE_SECONDS

GOOD = b'{"event":{"event":"signed_up","distinct_id":"anna","uuid":"u-1"}}'


async def listed(driver: Driver, **filters: object) -> DeadLetterPage:
    return await driver.gateway.request(
        INGEST_DEAD_LETTERS, msgspec.convert(filters, ListDeadLetters)
    )


async def replay(driver: Driver, **filters: object) -> DeadLettersDone:
    return await driver.gateway.request(INGEST_REPLAY, msgspec.convert(filters, ReplayDeadLetters))


async def purge(driver: Driver, **filters: object) -> DeadLettersDone:
    return await driver.gateway.request(INGEST_PURGE, msgspec.convert(filters, PurgeDeadLetters))


async def dead_letter(
    driver: Driver,
    body: bytes = GOOD,
    *,
    stream: str = StreamName.WEBHOOKS,
    subject: str = "hogsend.webhooks.posthog",
    reason: str = "outage",
    **headers: str,
) -> int:
    """Publish a dead letter directly, and return its sequence."""
    letter = DeadLetter(
        id="by-hand",
        stream=stream,
        subject=subject,
        reason=reason,
        detail="the database was unavailable",
        attempts=3,
        failed_at=datetime(2026, 1, 1, tzinfo=UTC),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
    )
    ack = await driver.operator.js.publish(
        subjects.dead_letter(stream), msgspec.json.encode(letter)
    )
    return ack.seq


def sequences(page: DeadLetterPage) -> list[int]:
    return [letter.sequence for letter in page.dead_letters]


async def test_the_replay_of_a_malformed_webhook_becomes_another_dead_letter(
    driver: Driver,
) -> None:
    async with driver.replica():
        await driver.queue(b"nonsense \xff\x00", Nats_Msg_Id="p-1")
        await driver.dead_letters(1)
        (first,) = (await listed(driver)).dead_letters
        assert (first.stream, first.reason, first.size) == ("WEBHOOKS", "malformed", 11)
        assert first.body is None
        assert (await listed(driver, sequence=first.sequence)).dead_letters[
            0
        ].body == "nonsense �\0"
        assert await replay(driver, sequence=first.sequence) == DeadLettersDone(count=1)
        (letter,) = await driver.dead_letters(1)
        (second,) = (await listed(driver)).dead_letters
        assert second.sequence > first.sequence
        assert letter.body == b"nonsense \xff\x00"
        # The message keeps its original id, however often it is replayed.
        assert message_id(letter.headers) == "p-1"
        assert await replay(driver) == DeadLettersDone(count=1)
        (letter,) = await driver.dead_letters(1)
        assert message_id(letter.headers) == "p-1"


async def test_a_replayed_webhook_is_stored_and_published_under_its_original_id(
    driver: Driver,
) -> None:
    sequence = await dead_letter(
        driver,
        GOOD.replace(b',"uuid":"u-1"', b""),
        Nats_Msg_Id="delivery-1",
        Hogsend_Received_At="2026-01-01T00:00:00.000000Z",
        Hogsend_Correlation_Id="c-1",
    )
    async with driver.replica():
        assert await replay(driver, sequence=sequence) == DeadLettersDone(count=1)
        (event,) = await driver.events(1)
        assert await driver.dead_letters(0) == []
    assert event.id == "delivery-1"
    assert event.received_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert await driver.rows.fetchval("SELECT count(*) FROM ingest.events") == 1


async def test_a_replay_within_the_deduplication_window_of_the_first_delivery_is_processed(
    driver: Driver,
) -> None:
    # As after an outage of a few minutes: JetStream still remembers the id.
    await driver.queue(GOOD.replace(b"signed_up", b"opened"), Nats_Msg_Id="d-1")
    await driver.operator.js.purge_stream(StreamName.WEBHOOKS)
    await dead_letter(driver, Nats_Msg_Id="d-1")
    async with driver.replica():
        assert (await replay(driver, stream="WEBHOOKS")).count == 1
        (event,) = await driver.events(1)
    assert (event.id, event.event) == ("u-1", "signed_up")


async def test_a_letter_that_a_crash_left_after_its_replay_is_replayed_again_without_effect(
    driver: Driver,
) -> None:
    sequence = await dead_letter(driver, Nats_Msg_Id="d-1")
    error = Unavailable("JetStream did not answer")
    async with driver.serving_requests():
        with patch.object(DeadLetterStream, "delete", side_effect=error):
            with pytest.raises(Unavailable, match="replaying it again does no harm"):
                await replay(driver, sequence=sequence)
            (kept,) = (await replay(driver)).kept
            assert (kept.reason, kept.count) == ("not_deleted", 1)
        queued = await driver.operator.js.stream_info(StreamName.WEBHOOKS)
        assert queued.state.messages == 1
        # After JetStream has forgotten the id, the unique key in PostgreSQL catches the repeat.
        with patch.object(replaying, "_headers", lambda _letter: {ORIGINAL_ID: "d-1"}):
            assert (await replay(driver)).count == 1
        queued = await driver.operator.js.stream_info(StreamName.WEBHOOKS)
        assert queued.state.messages == 2
    async with driver.replica():
        await driver.events(1)
    assert await driver.count("events") == 1


async def test_concurrent_replays_and_purges_lose_no_message(driver: Driver) -> None:
    count = 300
    for number in range(count):
        await dead_letter(driver, GOOD.replace(b"u-1", b"u-%d" % number), Nats_Msg_Id=f"d-{number}")
    async with driver.replica():
        await asyncio.gather(replay(driver), replay(driver))
        await driver.events(count)
        assert await driver.dead_letters(0) == []
        sequence = await dead_letter(driver, b"nonsense")
        outcomes = await asyncio.gather(
            *(replay(driver, sequence=sequence) for _ in range(3)),
            purge(driver, sequence=sequence),
            purge(driver),
            return_exceptions=True,
        )
    assert all(isinstance(outcome, DeadLettersDone | NotFound) for outcome in outcomes)
    assert await driver.count("events") == count


async def test_pages_of_dead_letters_continue_from_the_newest_to_the_oldest_across_gaps(
    driver: Driver,
) -> None:
    for number in range(30):
        await dead_letter(
            driver,
            stream=("WEBHOOKS", "ENGAGEMENT")[number % 2],
            reason=("outage", "malformed", "rejected")[number % 3],
        )
    for gap in (1, 2, *range(10, 20), 30):
        await driver.operator.js.delete_msg(StreamName.DEADLETTER, gap)
    remaining = [29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 9, 8, 7, 6, 5, 4, 3]
    async with driver.serving_requests():
        for filters, expected in (
            ({}, remaining),
            ({"stream": "WEBHOOKS"}, [sequence for sequence in remaining if sequence % 2]),
            ({"stream": "EVENTS"}, []),
            ({"reason": "malformed"}, [sequence for sequence in remaining if sequence % 3 == 2]),
            ({"stream": "ENGAGEMENT", "reason": "outage"}, [28, 22, 4]),
        ):
            listed_sequences: list[int] = []
            before = None
            while True:
                page = await listed(driver, **filters, limit=4, before=before)
                assert page.total == len(expected)
                listed_sequences += sequences(page)
                before = page.next_before
                if before is None:
                    break
                assert len(page.dead_letters) == 4
            assert listed_sequences == expected
        assert sequences(await listed(driver, sequence=20, stream="ENGAGEMENT")) == [20]
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
                await listed(driver, **wrong)


async def test_a_purge_by_filter_keeps_the_dead_letters_that_do_not_match(driver: Driver) -> None:
    kept = await dead_letter(driver, stream="ENGAGEMENT", reason="malformed")
    for _ in range(3):
        await dead_letter(driver, reason="malformed")
        await dead_letter(driver, reason="outage")
    async with driver.serving_requests():
        with pytest.raises(NotFound):
            await purge(driver, sequence=kept, stream="WEBHOOKS")
        assert (await purge(driver, stream="WEBHOOKS", reason="malformed")).count == 3
        assert (await listed(driver)).total == 4
        assert (await purge(driver, stream="WEBHOOKS")).count == 3
        assert sequences(await listed(driver)) == [kept]
        assert (await purge(driver, sequence=kept)).count == 1
        assert (await purge(driver)).count == 0
        await dead_letter(driver)
        await dead_letter(driver)
        assert (await purge(driver)).count == 2
        assert (await listed(driver)).total == 0


async def test_a_purge_that_nats_refuses_is_forbidden(driver: Driver) -> None:
    letters = DeadLetterStream(driver.gateway)
    with pytest.raises(Forbidden, match=r"(?i)stream\.purge\.deadletter"):
        await letters.purge(1)


async def test_an_unreadable_dead_letter_is_listed_and_purged_but_not_replayed(
    driver: Driver,
) -> None:
    await driver.operator.js.publish(subjects.dead_letter("WEBHOOKS"), b"\xff{")
    await dead_letter(driver)
    async with driver.serving_requests():
        page = await listed(driver, stream="WEBHOOKS")
        assert [letter.reason for letter in page.dead_letters] == ["outage", "unreadable"]
        with pytest.raises(InvalidRequest):
            await replay(driver, sequence=page.dead_letters[1].sequence)
        assert (await purge(driver, reason="unreadable")).count == 1


async def test_ingest_may_not_read_or_delete_messages_of_streams_without_personal_data(
    driver: Driver,
) -> None:
    await driver.post()
    async with driver.serving_requests() as broker:
        # Ingest may do so in DEADLETTER and in the streams that an erasure sweeps.
        for verb, stream in product(
            ("STREAM.MSG.DELETE", "DIRECT.GET"), (StreamName.CREDENTIALS, StreamName.AUDIT)
        ):
            with pytest.raises(Forbidden):
                await broker.link.request_raw(
                    f"$JS.API.{verb}.{stream}", b'{"seq":1}', seconds=PATIENCE_SECONDS
                )
        with pytest.raises(Forbidden):
            await broker.link.request_raw(
                "$JS.API.STREAM.DELETE.DEADLETTER", b"", seconds=PATIENCE_SECONDS
            )
    info = await driver.operator.js.stream_info(StreamName.WEBHOOKS)
    assert info.state.messages == 1


# The second size leaves no space for the other fields of the dead letter.
@pytest.mark.parametrize("spare", [64 * 1024, 200])
async def test_a_message_too_large_for_base64_is_dead_lettered_whole_and_can_be_replayed(
    driver: Driver, spare: int
) -> None:
    size = driver.gateway.max_payload - spare
    body = (b"nonsense \xff about anna. " * size)[:size]
    async with driver.replica():
        await driver.queue(body, Nats_Msg_Id="p-1")
        await driver.drained()
        (first,) = (await listed(driver)).dead_letters
        assert (first.stream, first.reason, first.size) == ("WEBHOOKS", "malformed", size)
        (shown,) = (await listed(driver, sequence=first.sequence)).dead_letters
        assert shown.body is not None
        assert body.decode(errors="replace").startswith(shown.body)
        assert await replay(driver, sequence=first.sequence) == DeadLettersDone(count=1)
        await driver.drained()
        stored = await driver.operator.js.get_last_msg(
            StreamName.DEADLETTER, "hogsend.deadletter.>"
        )
    letter = read_letter(stored.headers or {}, stored.data or b"")
    assert letter.body == body
    assert message_id(letter.headers) == "p-1"
