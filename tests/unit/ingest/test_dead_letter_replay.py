"""A replayed dead letter is deleted once its message is published; otherwise it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from hogsend.contract.dead_letters import DeadLetter, DeadLettersDone, ReplayDeadLetters
from hogsend.contract.errors import (
    InvalidRequest,
    NotFound,
    PublishRejected,
    TooLarge,
    Unavailable,
)
from hogsend.contract.headers import message_id
from hogsend.contract.persons import position_id
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.transport.publisher import OutgoingMessage
from services.ingest.dead_letters import replay as replaying
from services.ingest.dead_letters.admin import DeadLetterAdmin
from services.ingest.dead_letters.replay import IN_FLIGHT, Replayer
from services.ingest.dead_letters.stream import Letter
from services.ingest.erasure.freshness import FRESH_SECONDS
from services.ingest.sources.decode import decode_engagement
from tests.unit.ingest.fake_letters import FakeLetters
from tests.unit.ingest.fakes import NOW, Delivery, FakeMessage, FakePublisher, Journal
from tests.virtual_time import on_virtual_time

FAILED_AT = "1767225600.000000"


class Replays:
    """A replayer, its dead letters, and the messages that it publishes."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.letters = FakeLetters()
        self.publisher = FakePublisher(self.journal)
        self.replayer = Replayer(self.publisher, self.letters, DeadLetterAdmin(self.letters))

    async def replay(self, **filters: Any) -> DeadLettersDone:
        return await self.replayer.replay(ReplayDeadLetters(**filters))

    def refuse(self, sequence: int, *refusals: TooLarge | PublishRejected | Unavailable) -> None:
        self.publisher.refusals[f"replay:{sequence}:{FAILED_AT}"] = list(refusals)

    @property
    def published(self) -> list[tuple[str, bytes]]:
        return [(message.subject, message.body) for message in self.publisher.published.values()]


@pytest.fixture
def replays() -> Replays:
    return Replays()


async def test_a_replayed_message_keeps_its_original_id_under_another_jetstream_id(
    replays: Replays,
) -> None:
    replays.letters.add(
        body=b"body",
        Nats_Msg_Id="d-1",
        Hogsend_Received_At="2026-01-01T00:00:00.000000Z",
    )
    assert await replays.replay() == DeadLettersDone(count=1)
    (message,) = replays.publisher.published.values()
    assert (message.subject, message.body) == ("hogsend.webhooks.posthog", b"body")
    assert message.headers == {
        "Hogsend-Received-At": "2026-01-01T00:00:00.000000Z",
        "Nats-Msg-Id": f"replay:1:{FAILED_AT}",
        "Hogsend-Original-Id": "d-1",
        "Nats-Expected-Stream": "WEBHOOKS",
    }
    assert message_id(message.headers) == "d-1"
    assert replays.letters.letters == {}


async def test_a_message_without_an_id_is_replayed_without_an_original_id(replays: Replays) -> None:
    replays.letters.add()
    await replays.replay()
    (message,) = replays.publisher.published.values()
    assert message_id(message.headers) is None


async def test_a_replayed_report_without_an_id_and_time_becomes_the_same_event(
    replays: Replays,
) -> None:
    """Ingest had recorded the report before a destination dead-lettered it."""
    first = reported(b'{"data": {"userId": "ada"}}', {}, NOW)
    event = decode_engagement(first)
    message = await dead_lettered_and_replayed(replays, first, consumer="a-1")
    again = decode_engagement(reported(message.body, message.headers, NOW + timedelta(days=1)))
    assert event is not None
    assert again is not None
    assert (again.key, again.occurred_at) == (event.key, event.occurred_at)


async def test_a_replayed_capture_without_an_id_becomes_the_same_event_in_posthog(
    replays: Replays,
) -> None:
    queued = Delivery("PERSONS", timestamp=NOW)
    capture = FakeMessage(b'{"event": "e"}', "hogsend.persons.capture", {}, queued)
    message = await dead_lettered_and_replayed(replays, capture)
    assert message_id(message.headers) == position_id(queued.sequence.stream, NOW)


async def dead_lettered_and_replayed(
    replays: Replays, message: FakeMessage, *, consumer: str | None = None
) -> OutgoingMessage:
    letters = DeadLetters(replays.publisher, "analytics")
    await letters.publish(message, Unprocessable("exhausted", ""), attempts=8, consumer=consumer)
    (published,) = replays.publisher.published.values()
    replays.publisher.published.clear()
    replays.letters.letters[1] = msgspec.json.decode(published.body, type=DeadLetter)
    replays.letters.last = 1
    assert await replays.replay() == DeadLettersDone(count=1)
    (again,) = replays.publisher.published.values()
    return again


def reported(body: bytes, headers: Mapping[str, str], at: datetime) -> FakeMessage:
    queued = Delivery("ENGAGEMENT", timestamp=at)
    return FakeMessage(body, "hogsend.engagement.email.opened", dict(headers), queued)


async def test_a_message_that_is_replayed_a_second_time_keeps_its_first_id(
    replays: Replays,
) -> None:
    replays.letters.add(Nats_Msg_Id="replay:9:1.000000", Hogsend_Original_Id="d-1")
    await replays.replay()
    (message,) = replays.publisher.published.values()
    assert message_id(message.headers) == "d-1"


async def test_control_headers_of_the_first_publish_are_omitted_from_the_replay(
    replays: Replays,
) -> None:
    replays.letters.add(
        Nats_Expected_Last_Sequence="12345", nats_rollup="all", Nats_TTL="1s", Other="a\r\nb"
    )
    await replays.replay()
    (message,) = replays.publisher.published.values()
    assert set(message.headers) == {
        *("Other", "Nats-Msg-Id", "Hogsend-Original-Id", "Nats-Expected-Stream")
    }
    assert message.headers["Other"] == "a  b"


async def test_a_dead_letter_is_not_deleted_unless_its_message_is_published(
    replays: Replays,
) -> None:
    replays.publisher.errors = [RuntimeError("the process ends here")]
    replays.letters.add()
    with pytest.raises(RuntimeError):
        await replays.replay()
    assert list(replays.letters.letters) == [1]


async def test_a_dead_letter_that_could_not_be_deleted_is_replayed_again_under_the_same_id(
    replays: Replays,
) -> None:
    replays.letters.add(Nats_Msg_Id="d-1")
    replays.letters.delete_error = Unavailable("JetStream did not answer")
    with pytest.raises(Unavailable, match="replaying it again does no harm"):
        await replays.replay(sequence=1)
    (kept,) = (await replays.replay()).kept
    assert (kept.reason, kept.count) == ("not_deleted", 1)
    replays.letters.delete_error = None
    assert await replays.replay() == DeadLettersDone(count=1)
    assert replays.journal == [f"publish replay:1:{FAILED_AT}"] * 3
    assert len(replays.published) == 1


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        ("WEBHOOKS", "hogsend.webhooks.posthog"),
        ("WEBHOOKS", "hogsend.webhooks.posthog.63"),
        ("ENGAGEMENT", "hogsend.engagement.email.opened"),
        ("PERSONS", "hogsend.persons.set"),
    ],
)
async def test_a_message_on_a_subject_that_ingest_may_publish_is_replayed(
    replays: Replays, stream: str, subject: str
) -> None:
    replays.letters.add(stream, subject)
    assert (await replays.replay(stream=stream)).count == 1
    assert replays.published == [(subject, b"{}")]


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        ("GONE", "hogsend.gone.now"),
        ("WEBHOOKS", "hogsend.webhooks.*"),
        ("WEBHOOKS", "hogsend.webhooks.>"),
        ("WEBHOOKS", "hogsend.webhooks."),
        ("WEBHOOKS", "hogsend.webhooks.a b"),
        ("WEBHOOKS", "hogsend.webhooks.a\r\nPUB x"),
        ("WEBHOOKS", "hogsend.webhooks.posthog.more"),
        ("WEBHOOKS", "hogsend.webhooks.posthog.64"),
        ("WEBHOOKS", "hogsend.credentials.posthog.changed"),
        ("CREDENTIALS", "hogsend.credentials.posthog.changed"),
        ("WEBHOOKS", ""),
    ],
)
async def test_a_dead_letter_whose_subject_no_stream_accepts_is_kept(
    replays: Replays, stream: str, subject: str
) -> None:
    replays.letters.add(stream, subject)
    (kept,) = (await replays.replay()).kept
    assert (kept.reason, kept.count, kept.first_sequence) == ("not_replayable", 1, 1)
    with pytest.raises(InvalidRequest, match=f"no stream {stream} takes"):
        await replays.replay(sequence=1)
    assert replays.published == []
    assert len(replays.letters.letters) == 1


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (TooLarge("2 MiB are more than NATS takes (1 MiB)"), "too_large"),
        (PublishRejected("the stream is sealed"), "refused"),
        (Unavailable("the stream does not exist"), "unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_dead_letter_whose_message_jetstream_refuses_is_kept_and_the_others_are_replayed(
    replays: Replays, refusal: TooLarge | PublishRejected | Unavailable, reason: str
) -> None:
    for _ in range(3):
        replays.letters.add()
    replays.refuse(2, refusal, refusal)
    done = await replays.replay()
    assert done.count == 2
    assert [(kept.reason, kept.first_sequence) for kept in done.kept] == [(reason, 2)]
    assert list(replays.letters.letters) == [2]
    with pytest.raises(Unavailable if reason == "unavailable" else InvalidRequest):
        await replays.replay(sequence=2)


async def test_kept_dead_letters_are_counted_by_reason(replays: Replays) -> None:
    replays.letters.add(body=b"", reason="too_large_for_bus")
    replays.letters.add()
    replays.letters.add("GONE", "hogsend.gone.now")
    replays.letters.add("GONE", "hogsend.gone.then")
    done = await replays.replay()
    assert done.count == 1
    assert [(kept.reason, kept.count, kept.first_sequence) for kept in done.kept] == [
        ("no_body", 1, 1),
        ("not_replayable", 2, 3),
    ]
    with pytest.raises(InvalidRequest, match="too large for the bus"):
        await replays.replay(sequence=1)


async def test_a_replay_of_no_letter_during_an_outage_is_unavailable(replays: Replays) -> None:
    replays.letters.add()
    replays.refuse(1, Unavailable("NATS is not connected"))
    with pytest.raises(Unavailable, match="WEBHOOKS"):
        await replays.replay()
    assert len(replays.letters.letters) == 1


async def test_many_dead_letters_are_replayed_in_the_order_of_their_sequences(
    replays: Replays,
) -> None:
    for number in range(3 * IN_FLIGHT + 1):
        replays.letters.add(body=b"%d" % number)
    assert (await replays.replay()).count == 3 * IN_FLIGHT + 1
    assert [int(body) for _, body in replays.published] == list(range(3 * IN_FLIGHT + 1))


async def test_only_dead_letters_that_match_the_filters_are_replayed(replays: Replays) -> None:
    replays.letters.add(reason="malformed")
    replays.letters.add(reason="outage")
    replays.letters.add("ENGAGEMENT", "hogsend.engagement.email.opened", "outage")
    assert (await replays.replay(stream="WEBHOOKS", reason="outage")).count == 1
    assert list(replays.letters.letters) == [1, 3]
    with pytest.raises(NotFound):
        await replays.replay(sequence=1, reason="outage")
    with pytest.raises(InvalidRequest, match="name of a stream"):
        await replays.replay(stream="*")


@pytest.mark.parametrize("sequence", [None, 1])
@on_virtual_time
async def test_a_dead_letter_that_an_erasure_deleted_after_it_was_read_is_not_replayed(
    replays: Replays, sequence: int | None
) -> None:
    """A process that was frozen in between would publish the message after the last sweep."""
    read = replays.letters.read

    async def read_before_a_freeze(
        first: int, last: int, origin: str | None = None
    ) -> AsyncIterator[list[Letter]]:
        async for batch in read(first, last, origin):
            if len(replays.letters.reads) == 1:
                await asyncio.sleep(FRESH_SECONDS)
                del replays.letters.letters[1]
            yield batch

    for number in range(1, 4):
        replays.letters.add(body=b"%d" % number)
    with patch.object(replays.letters, "read", read_before_a_freeze):
        if sequence is None:
            assert await replays.replay() == DeadLettersDone(count=2)
        else:
            with pytest.raises(NotFound):
                await replays.replay(sequence=sequence)
    assert b"1" not in [body for _, body in replays.published]


@on_virtual_time
async def test_only_a_stale_dead_letter_that_cannot_be_read_again_is_kept(
    replays: Replays,
) -> None:
    read = replays.letters.read

    async def read_after_a_freeze(
        first: int, last: int, origin: str | None = None
    ) -> AsyncIterator[list[Letter]]:
        is_first = not replays.letters.reads
        if first == last == 2:
            raise Unavailable("JetStream does not answer")
        async for batch in read(first, last, origin):
            if is_first:
                await asyncio.sleep(FRESH_SECONDS)
            yield batch

    for number in range(1, 4):
        replays.letters.add(body=b"%d" % number)
    with patch.object(replays.letters, "read", read_after_a_freeze):
        done = await replays.replay()
    assert done.count == 2
    assert [(kept.reason, kept.first_sequence) for kept in done.kept] == [("unavailable", 2)]
    assert list(replays.letters.letters) == [2]
    assert {body for _, body in replays.published} == {b"1", b"3"}


async def test_a_replay_that_runs_out_of_time_reports_that_letters_remain(
    replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "BUDGET_SECONDS", -1)
    replays.letters.add()
    assert await replays.replay() == DeadLettersDone(count=0, more=True)
    assert len(replays.letters.letters) == 1
