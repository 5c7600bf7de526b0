"""A batch is committed, published and acknowledged in this order, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest.mock import patch

import pytest

from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.contract.json_memory import decoded_bytes
from hogsend.service.activity import distribution, level
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.memory_budget import MemoryBudget
from hogsend.service.queued_message import QueuedMessage
from hogsend.service.retry import RETRIES
from hogsend.transport.pending_acks import Outcome as PublishOutcome
from hogsend.transport.publisher import OutgoingMessage
from services.ingest import metrics
from services.ingest.dead_letters.publish import RETRY_SECONDS
from services.ingest.erasure.freshness import FRESH_SECONDS
from services.ingest.events import event_processor
from services.ingest.events.event_processor import EventProcessor
from services.ingest.events.outcome import Outcome, Rejected, Saved, Status
from services.ingest.incoming_event import IncomingEvent
from tests.unit.ingest.fakes import (
    Delivery,
    FakeMessage,
    FakePublisher,
    FakeStore,
    Journal,
    incoming,
)
from tests.virtual_time import on_virtual_time, settle


def decode(message: QueuedMessage) -> IncomingEvent | None:
    text = message.data.decode()
    if text == "malformed":
        raise Unprocessable("malformed", "not an event")
    return None if text == "nothing" else incoming(text, user_id=f"user of {text}")


class Batch:
    """An event processor, the fakes that it calls, and their common journal."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.store = FakeStore(self.journal)
        self.publisher = FakePublisher(self.journal)
        self.processor = EventProcessor(
            self.store, self.publisher, DeadLetters(self.publisher, "ingest")
        )

    def message(self, text: str, *, num_delivered: int = 1, name: str = "") -> FakeMessage:
        return FakeMessage(
            text.encode(),
            metadata=Delivery(num_delivered=num_delivered),
            name=name or text,
            journal=self.journal,
        )

    async def process(self, *texts: str) -> list[FakeMessage]:
        messages = [self.message(text) for text in texts]
        await self.processor.process(messages, decode)
        return messages

    def letters(self) -> list[tuple[str, bytes]]:
        return [(letter.reason, letter.body) for letter in self.publisher.dead_letters()]


@pytest.fixture
def batch() -> Batch:
    return Batch()


async def test_a_batch_is_committed_then_published_then_acknowledged(batch: Batch) -> None:
    await batch.process("a", "b")
    assert batch.journal == ["commit a b", "publish a", "publish b", "ack a", "ack b"]
    assert [(event.id, event.contact_key) for event in batch.publisher.events()] == [
        ("a", "user of a"),
        ("b", "user of b"),
    ]


async def test_a_webhook_is_not_acknowledged_when_the_commit_fails(batch: Batch) -> None:
    batch.store.errors = [RuntimeError("a defect")]
    with pytest.raises(RuntimeError):
        await batch.process("a")
    assert batch.journal == []


async def test_a_webhook_is_not_acknowledged_when_publishing_fails(batch: Batch) -> None:
    batch.publisher.errors = [RuntimeError("a defect")]
    with pytest.raises(RuntimeError):
        await batch.process("a")
    assert batch.journal == ["commit a"]


async def test_publishing_is_retried_until_jetstream_is_available(batch: Batch) -> None:
    batch.publisher.errors = [Unavailable("NATS is not connected")] * 3
    await batch.process("a")
    assert batch.journal == ["commit a", "publish a", "ack a"]


async def test_retries_of_publishing_are_counted_by_operation(batch: Batch) -> None:
    operation = "services.ingest.events.publication.Publication._attempt"
    counted = RETRIES.labels(operation, "Unavailable")._value
    before = counted.get()
    batch.publisher.errors = [Unavailable("NATS is not connected")] * 3
    await batch.process("a")
    assert counted.get() - before == 3


async def test_publishing_is_retried_until_the_stream_accepts_the_event(
    batch: Batch,
) -> None:
    batch.publisher.refusals["b"] = [PublishRejected("the stream is sealed")] * 2
    await batch.process("a", "b")
    assert batch.journal == [
        *("commit a b", "publish a", "publish a", "publish a", "publish b"),
        *("ack a", "ack b"),
    ]
    assert batch.letters() == []


async def test_an_event_too_large_for_the_bus_is_stored_and_dead_lettered_without_its_body(
    batch: Batch,
) -> None:
    batch.publisher.refusals["b"] = [TooLarge("2 MiB are more than NATS takes (1 MiB)")]
    large = (await batch.process("a", "b", "c"))[1]
    letter = f"publish WEBHOOKS:{large.metadata.sequence.stream}"
    assert batch.journal == [
        *("commit a b c", "publish a", "publish c"),
        *("ack a", "ack c", letter, "ack b"),
    ]
    assert batch.letters() == [("too_large_for_bus", b"")]


async def test_a_poison_message_is_dead_lettered_without_failing_its_batch(batch: Batch) -> None:
    batch.store.outcomes["c"] = Rejected(Unprocessable("rejected_by_database", "no such number"))
    messages = await batch.process("a", "malformed", "b", "c", "d")
    assert [event.id for event in batch.publisher.events()] == ["a", "b", "d"]
    assert batch.letters() == [("malformed", b"malformed"), ("rejected_by_database", b"c")]
    assert {f"ack {message.name}" for message in messages} <= set(batch.journal)


async def test_a_poison_message_that_cannot_be_dead_lettered_is_nakd_without_failing_its_batch(
    batch: Batch,
) -> None:
    messages = [batch.message(text) for text in ("malformed", "a", "malformed", "malformed")]
    ids = [f"WEBHOOKS:{message.metadata.sequence.stream}" for message in messages]
    batch.publisher.refusals[ids[0]] = [Unavailable("NATS is not connected")]
    batch.publisher.refusals[ids[2]] = [TooLarge("even compressed")] * 3
    await batch.processor.process(messages, decode)
    assert [message.delays for message in messages] == [[RETRY_SECONDS], [], [RETRY_SECONDS], []]
    assert batch.journal == [
        *("commit a", "publish a", "ack a"),
        *("nak malformed", "nak malformed", f"publish {ids[3]}", "ack malformed"),
    ]


@pytest.mark.parametrize("num_delivered", [1, 2])
async def test_an_event_of_an_erased_person_is_not_published(
    batch: Batch, num_delivered: int
) -> None:
    batch.store.outcomes["b"] = Saved(Status.ERASED, "")
    messages = [batch.message(text, num_delivered=num_delivered) for text in ("a", "b")]
    await batch.processor.process(messages, decode)
    assert batch.journal == ["commit a b", "publish a", "ack b", "ack a"]
    assert batch.letters() == []


@pytest.mark.parametrize("in_order", [False, True])
@on_virtual_time
async def test_an_event_of_a_person_erased_while_jetstream_refuses_messages_is_not_published(
    batch: Batch, in_order: bool
) -> None:
    """The sweeps of the erasure have ended by then, so no sweep would delete the event."""

    async def refused(_messages: Sequence[OutgoingMessage]) -> list[PublishOutcome]:
        await asyncio.sleep(FRESH_SECONDS)
        batch.store.erased_since = {"b"}
        refusing.stop()
        raise Unavailable("the stream is full")

    messages = [batch.message(text) for text in ("a", "b", "c")]
    refusing = patch.object(batch.publisher, "publish_all", refused)
    refusing.start()
    await batch.processor.process(messages, decode, in_order=in_order)
    assert batch.journal[:3] == ["commit a b c", "publish a", "publish c"]
    assert sorted(batch.journal[3:]) == ["ack a", "ack b", "ack c"]


@on_virtual_time
async def test_a_stale_poison_message_is_nakd_because_its_person_may_have_been_erased(
    batch: Batch,
) -> None:
    """A replica that waits for PostgreSQL holds messages that an erasure deletes."""
    save = batch.store.save

    async def slow(events: Sequence[IncomingEvent]) -> list[Outcome]:
        await asyncio.sleep(FRESH_SECONDS)
        return await save(events)

    with patch.object(batch.store, "save", slow):
        await batch.process("malformed", "a")
    assert batch.letters() == []
    assert batch.journal == ["commit a", "publish a", "ack a", "nak malformed"]
    # The message is still in its stream, so JetStream delivers it again.
    await batch.process("malformed")
    assert batch.letters() == [("malformed", b"malformed")]


async def test_a_message_without_an_event_is_only_acknowledged(batch: Batch) -> None:
    await batch.process("nothing")
    assert batch.journal == ["ack nothing"]


async def test_a_repeated_event_is_acknowledged_and_not_published_again(batch: Batch) -> None:
    await batch.process("a")
    batch.journal.clear()
    await batch.process("a")
    assert batch.journal == ["commit a", "ack a"]


async def test_copies_of_an_event_in_one_batch_are_published_once(batch: Batch) -> None:
    await batch.process("a", "a", "a")
    assert batch.journal.count("publish a") == 1
    assert batch.journal.count("ack a") == 3
    assert batch.journal.index("publish a") < batch.journal.index("ack a")


async def test_an_event_that_an_earlier_attempt_of_its_message_stored_is_published_again(
    batch: Batch,
) -> None:
    batch.store.outcomes["a"] = Saved(Status.REDELIVERED, "anna")
    await batch.process("a")
    assert batch.journal == ["commit a", "publish a", "ack a"]


async def test_a_stored_event_is_published_again_when_jetstream_redelivers_its_message(
    batch: Batch,
) -> None:
    batch.store.outcomes["a"] = Saved(Status.KNOWN, "anna")
    await batch.processor.process([batch.message("a", num_delivered=2)], decode)
    assert batch.journal == ["commit a", "publish a", "ack a"]


async def test_events_of_a_commit_whose_reply_was_lost_are_published(batch: Batch) -> None:
    """The second attempt finds the events that the first one stored."""
    batch.store.commits_first = True
    batch.store.errors = [Unavailable("the connection broke after the commit")]
    await batch.process("a", "b")
    assert batch.journal == [
        *("commit a b", "commit a b", "publish a", "publish b", "ack a", "ack b"),
    ]


@on_virtual_time
async def test_stored_repeated_and_published_events_are_counted_apart(batch: Batch) -> None:
    def counts() -> tuple[int, int, int, int]:
        activity = metrics.activity().ingest
        assert activity is not None
        timed = activity.announced_seconds.counts[-1]
        return activity.stored, activity.duplicates, activity.announced, timed

    async def erased_later(events: Sequence[IncomingEvent]) -> list[Outcome]:
        outcomes = await save(events)
        await asyncio.sleep(FRESH_SECONDS)
        return outcomes

    save = batch.store.save
    await batch.process("repeated")
    batch.store.erased_since = {"erased"}
    before = counts()
    with patch.object(batch.store, "save", erased_later):
        await batch.process("a", "b", "repeated", "erased")
    changes = [now - earlier for now, earlier in zip(counts(), before, strict=True)]
    assert changes == [3, 1, 2, 2]


async def test_a_batch_and_the_messages_that_wait_after_it_are_measured(batch: Batch) -> None:
    message = batch.message("a")
    message.metadata.num_pending = 7
    sizes, durations = distribution(metrics.BATCH_SIZE), distribution(metrics.BATCH_SECONDS)
    await batch.processor.process([batch.message("b"), message], decode)
    assert distribution(metrics.BATCH_SIZE).counts[1] == sizes.counts[1] + 1
    assert distribution(metrics.BATCH_SECONDS).counts[-1] == durations.counts[-1] + 1
    assert level(metrics.LAG, stream="WEBHOOKS") == 7
    assert level(metrics.LAG_SECONDS, stream="WEBHOOKS") > 0


class BlockedBatches:
    """Batches of one message each, which are decoded and then wait for `may_save`."""

    def __init__(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[str] = []
        self.may_save = asyncio.Event()
        self._batch = batch
        self._save = batch.store.save
        monkeypatch.setattr(batch.store, "save", self._save_when_allowed)

    def start(self, *texts: str) -> list[asyncio.Task[None]]:
        process, message = self._batch.processor.process, self._batch.message
        return [
            asyncio.create_task(process([message(text)], self._record_and_decode)) for text in texts
        ]

    async def _save_when_allowed(self, events: Sequence[IncomingEvent]) -> list[Outcome]:
        await self.may_save.wait()
        return await self._save(events)

    def _record_and_decode(self, message: QueuedMessage) -> IncomingEvent | None:
        self.decoded.append(message.data.decode())
        return decode(message)


async def test_large_batches_are_decoded_one_at_a_time(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch.processor, "_decoded", MemoryBudget(3))
    blocked = BlockedBatches(batch, monkeypatch)
    running = blocked.start("large", "too", "more")
    await settle()
    assert blocked.decoded == ["large"]
    running.pop().cancel()  # a waiting batch that is cancelled reserves no memory
    blocked.may_save.set()
    await asyncio.gather(*running)
    assert blocked.decoded == ["large", "too"]
    assert batch.journal[-1] == "ack too"


async def test_small_batches_do_not_starve_a_waiting_large_batch(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        batch.processor, "_decoded", MemoryBudget(3 * event_processor.MEMORY_FACTOR)
    )
    blocked = BlockedBatches(batch, monkeypatch)
    running = blocked.start("a", "xyz", "b")
    await settle()
    assert blocked.decoded == ["a"]
    blocked.may_save.set()
    await asyncio.gather(*running)
    assert blocked.decoded == ["a", "xyz", "b"]


async def test_a_batch_that_exceeds_the_byte_budget_is_decoded_in_parts(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_processor, "SMALL_BATCH", 0)
    monkeypatch.setattr(event_processor, "MAX_DECODED_BYTES", 2 * decoded_bytes(b"a"))
    await batch.process("a", "b", "c", "large", "d")
    journal = [line for line in batch.journal if line.startswith("commit")]
    assert journal == ["commit a b", "commit c", "commit large", "commit d"]


async def test_in_order_an_event_is_published_after_the_previous_event_of_its_person(
    batch: Batch,
) -> None:
    def decode_person(message: QueuedMessage) -> IncomingEvent:
        text = message.data.decode()
        return incoming(text, user_id=text[0])

    batch.publisher.refusals["a1"] = [Unavailable("the stream is full")]
    messages = [batch.message(text) for text in ("a1", "a2", "b1", "a3")]
    await batch.processor.process(messages, decode_person, in_order=True)
    # JetStream accepted b1, which was sent with the refused a1, and drops the repeat by its id.
    published = [step for step in batch.journal if step.startswith("publish")]
    assert published == ["publish b1", "publish a1", "publish b1", "publish a2", "publish a3"]


async def test_without_order_a_batch_is_published_at_once(batch: Batch) -> None:
    batch.publisher.refusals["a1"] = [Unavailable("the stream is full")]
    messages = [batch.message(text) for text in ("a1", "a2")]
    await batch.processor.process(messages, lambda message: incoming(message.data.decode()))
    published = [step for step in batch.journal if step.startswith("publish")]
    assert published == ["publish a2", "publish a1", "publish a2"]
