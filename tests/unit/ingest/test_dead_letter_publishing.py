"""A dead letter holds the whole message, and the reason why it could not be processed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from prometheus_client import REGISTRY

from hogsend.contract.errors import TooLarge, Unavailable
from hogsend.contract.headers import RECEIVED_AT, format_time
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.metrics import FAILURES
from services.ingest import metrics
from services.ingest.dead_letters.publish import RETRY_SECONDS, TOO_LARGE, Failure, publish
from services.ingest.erasure.freshness import FRESH_SECONDS
from tests.unit.ingest.fakes import (
    NOW,
    Delivery,
    FakeMessage,
    FakePublisher,
    Journal,
    StreamSequence,
)
from tests.virtual_time import on_virtual_time


def message(body: bytes) -> FakeMessage:
    return FakeMessage(
        body,
        headers={"Nats-Msg-Id": "p-1"},
        metadata=Delivery(sequence=StreamSequence(7), num_delivered=3),
    )


async def test_a_dead_letter_holds_the_message_unchanged_and_the_reason() -> None:
    publisher = FakePublisher([])
    failure = Failure(message(b"nonsense \xff"), Unprocessable("malformed", "not JSON"))
    before = datetime.now(UTC)
    await publish(DeadLetters(publisher, "ingest"), [failure])
    (outgoing,) = publisher.published.values()
    assert outgoing.subject == "hogsend.deadletter.WEBHOOKS"
    assert outgoing.headers["Nats-Msg-Id"] == "WEBHOOKS:7"
    (letter,) = publisher.dead_letters()
    assert (letter.id, letter.stream, letter.attempts) == ("WEBHOOKS:7", "WEBHOOKS", 3)
    queued = {RECEIVED_AT: format_time(NOW)}
    assert letter.subject == "hogsend.webhooks.posthog"
    assert letter.headers == {"Nats-Msg-Id": "p-1", **queued}
    assert (letter.reason, letter.detail) == ("malformed", "not JSON")
    assert letter.body == b"nonsense \xff"
    assert before <= letter.failed_at <= datetime.now(UTC)


async def test_the_dead_letter_of_an_event_too_large_for_the_bus_omits_its_body() -> None:
    publisher = FakePublisher([])
    why = Unprocessable(TOO_LARGE, "stored, but not published")
    await publish(DeadLetters(publisher, "ingest"), [Failure(message(b"x" * 1000), why)])
    (letter,) = publisher.dead_letters()
    assert letter.body == b""


@on_virtual_time
async def test_a_stale_failed_message_is_redelivered_once_before_it_becomes_a_dead_letter() -> None:
    journal: Journal = []
    publisher = FakePublisher(journal)
    since = asyncio.get_running_loop().time()
    await asyncio.sleep(FRESH_SECONDS)
    failures = [
        Failure(
            FakeMessage(
                metadata=Delivery(sequence=StreamSequence(number), num_delivered=number),
                name=str(number),
                journal=journal,
            ),
            Unprocessable("malformed", ""),
        )
        for number in (1, 2)
    ]
    letters = DeadLetters(publisher, "ingest")
    await publish(letters, failures, since=since)
    assert [letter.id for letter in publisher.dead_letters()] == ["WEBHOOKS:2"]
    assert [step for step in journal if not step.startswith("publish")] == ["nak 1", "ack 2"]
    await publish(letters, failures[:1], since=asyncio.get_running_loop().time())
    assert [letter.id for letter in publisher.dead_letters()] == ["WEBHOOKS:2", "WEBHOOKS:1"]


async def test_dead_letters_are_counted_by_reason() -> None:
    def letters_count() -> float:
        labels = {"reason": "for this test"}
        return REGISTRY.get_sample_value("hogsend_ingest_dead_letters_total", labels) or 0

    before = letters_count()
    why = Unprocessable("for this test", "")
    failures = [Failure(message(b""), why), Failure(message(b""), why)]
    await publish(DeadLetters(FakePublisher([]), "ingest"), failures)
    assert letters_count() == before + 2


async def test_a_message_too_large_for_a_dead_letter_is_counted_as_undeliverable() -> None:
    def counts() -> tuple[float, float]:
        failures = FAILURES.labels("dead_letters", "Unavailable")
        return metrics.UNDELIVERABLE._value.get(), failures._value.get()

    journal: Journal = []
    publisher = FakePublisher(journal)
    publisher.refusals["WEBHOOKS:7"] = [*[TooLarge("even compressed")] * 3, Unavailable("down")]
    before = counts()
    for undeliverable, failed in ((1, 0), (1, 1)):
        failed_message = message(b"")
        await publish(
            DeadLetters(publisher, "ingest"), [Failure(failed_message, Unprocessable("large", ""))]
        )
        assert failed_message.delays == [RETRY_SECONDS]
        assert counts() == (before[0] + undeliverable, before[1] + failed)
    assert publisher.published == {}
