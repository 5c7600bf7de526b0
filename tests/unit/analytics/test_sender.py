"""Delivery to PostHog: nothing is lost, each person's events stay in order, failures end well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.posthog.capture import CaptureError
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.tasks import cancel_all
from services.analytics.delivery.batch_delivery import DELETED_CHECK_SECONDS
from services.analytics.delivery.failing import Attempt
from services.analytics.delivery.metrics import LAG, LAG_SECONDS, RETRIES, SETTLED, WAITING
from services.analytics.delivery.retry import RetryPolicy
from services.analytics.delivery.sender import MAX_BATCH, MAX_QUEUED_BYTES, Sender
from services.analytics.delivery.settlement import HISTORY_SECONDS
from services.analytics.delivery.streams import ACK_WAIT_SECONDS
from tests.unit.analytics.delivery_fakes import (
    Fact,
    FakeCapture,
    FakeConsumer,
    FakeMessage,
    FakeSource,
    FakeStream,
    event,
)
from tests.virtual_time import on_virtual_time, settle

UNREACHABLE = CaptureError("PostHog cannot be reached (ConnectError)")
BUSY = CaptureError("HTTP 503", 503)
BAD_CONTENT = CaptureError("HTTP 400: no", 400)
BAD_KEY = CaptureError("HTTP 401: no", 401)


@dataclass
class Delivery:
    """A sender with fakes of all its dependencies."""

    stream: FakeStream = field(default_factory=FakeStream)
    capture: FakeCapture = field(default_factory=FakeCapture)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    results: list[str] = field(default_factory=list)
    """Results of attempts."""
    attempts: list[Attempt] = field(default_factory=list)
    """Failed attempts."""

    def __post_init__(self) -> None:
        self.journal = self.stream.journal
        self.consumer = FakeConsumer(journal=self.journal)
        self.source = FakeSource(self.journal)
        self.sender = Sender(self.source, self.consumer, self.capture, self.policy, self)

    async def record_failure(self, durable: str, attempt: Attempt) -> None:
        self.results.append(f"{durable} failed")
        self.attempts.append(attempt)

    async def record_success(self, durable: str) -> None:
        self.results.append(f"{durable} worked")

    def event(self, position: int, person: str, name: str = "e", **more: Any) -> FakeMessage:
        """A message of this delivery's stream."""
        return event(position, person, name, stream=self.stream, **more)

    async def deliver(self, *messages: FakeMessage) -> None:
        """Enqueue a batch, and let the sender run."""
        await self.sender.enqueue(messages)
        await settle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run the sender; it is cancelled at the end unless the test did so."""
        task = asyncio.create_task(self.sender.run())
        await settle()
        try:
            yield task
        finally:
            await cancel_all(task)


@pytest.fixture
def delivery() -> Delivery:
    return Delivery()


@on_virtual_time
async def test_events_are_sent_together_and_acknowledged(delivery: Delivery) -> None:
    messages = [delivery.event(number, f"u_{number % 3}", f"e_{number}") for number in range(1, 9)]
    async with delivery.running():
        await delivery.deliver(*messages)
        assert delivery.capture.attempts == [[f"e_{number}" for number in range(1, 9)]]
        assert [message.acks for message in messages] == [1] * 8
        assert delivery.source.statuses() == [(str(n), "delivered", 1) for n in range(1, 9)]


@on_virtual_time
async def test_the_age_of_the_oldest_event_is_measured_until_it_is_sent(
    delivery: Delivery,
) -> None:
    first, second = delivery.event(1, "u_1"), delivery.event(2, "u_2")
    second.queued_at = first.queued_at + timedelta(seconds=30)
    lag = LAG_SECONDS.labels(delivery.source.name, delivery.source.destination_id)
    delivery.capture.judge = lambda _names: UNREACHABLE
    async with delivery.running():
        await delivery.deliver(second, first)
        delivery.sender.measure_lag(first.queued_at + timedelta(seconds=90))
        assert lag._value.get() == 90
        delivery.capture.judge = lambda _names: None
        await asyncio.sleep(3600)
        assert first.acks
        delivery.sender.measure_lag(first.queued_at + timedelta(seconds=90))
        assert lag._value.get() == 0


@on_virtual_time
async def test_a_request_has_at_most_one_batch(delivery: Delivery) -> None:
    async with delivery.running():
        await delivery.deliver(*(delivery.event(n, f"u_{n}") for n in range(MAX_BATCH + 1)))
        assert [len(names) for names in delivery.capture.attempts] == [MAX_BATCH, 1]


@on_virtual_time
async def test_case_143_the_outcome_is_recorded_before_the_message_is_acknowledged(
    delivery: Delivery,
) -> None:
    delivery.source.project_result = None
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1"))
        assert delivery.source.statuses() == [("1", "discarded", 0)]
        delivery.source.project_result = Unprocessable("not_configured", "no apiKey")
        await delivery.deliver(delivery.event(2, "u_1"))
        await delivery.deliver(delivery.event(3, "u_1", "skipped"))
    assert delivery.journal == [
        *(Fact("record"), Fact("ack", 1)),
        *(Fact("record"), Fact("ack", 2)),
        *(Fact("record"), Fact("ack", 3)),
        Fact("nak'ed"),
    ]
    assert delivery.source.statuses()[1:] == [("2", "failed", 1), ("3", "skipped", 1)]


@on_virtual_time
async def test_a_configuration_change_applies_to_the_next_message(delivery: Delivery) -> None:
    delivery.source.stored = (1, set())
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1", "a"))
        delivery.source.stored = (2, {"a"})
        await delivery.deliver(delivery.event(2, "u_2", "a"))
        delivery.source.stored = (3, set())
        await delivery.deliver(delivery.event(3, "u_3", "a"))
    assert delivery.capture.accepted == [("u_2", "a")]


@on_virtual_time
async def test_a_configuration_change_applies_to_the_next_attempt(delivery: Delivery) -> None:
    delivery.capture.judge = lambda _names: BUSY
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1", "a"), delivery.event(2, "u_2", "b"))
        assert delivery.capture.attempts == [["a", "b"]]
        # The new configuration excludes `a`, which waits for its next attempt.
        delivery.source.stored = (1, {"b"})
        delivery.capture.judge = lambda _names: None
        await asyncio.sleep(60)
    assert delivery.capture.attempts[1:] == [["b"]]
    assert ("1", "discarded", 1) in delivery.source.statuses()


@on_virtual_time
async def test_the_next_attempt_sends_an_event_as_the_new_configuration_maps_it(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda _names: BUSY
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1", "a"), delivery.event(2, "u_2", "b"))
        delivery.source.renamed = {"a": "renamed", "b": "skipped"}
        delivery.source.stored = (1, None)
        delivery.capture.judge = lambda _names: None
        await asyncio.sleep(60)
    assert delivery.capture.attempts[1:] == [["renamed"]]
    assert ("2", "discarded", 1) in delivery.source.statuses()


@on_virtual_time
async def test_an_event_erased_while_queued_is_neither_sent_nor_a_dead_letter(
    delivery: Delivery,
) -> None:
    erased, behind = delivery.event(1, "u_1"), delivery.event(2, "u_1", "behind")
    delivery.capture.judge = lambda _names: UNREACHABLE
    async with delivery.running():
        await delivery.deliver(erased, behind, delivery.event(3, "u_2", "other"))
        await asyncio.sleep(DELETED_CHECK_SECONDS)
        delivery.consumer.erased = {1, 2}
        tried = len(delivery.capture.attempts)
        await asyncio.sleep(3600)
        assert "other" in delivery.capture.attempts[tried]
        assert not {"e", "behind"}.intersection(*delivery.capture.attempts[tried:])
    assert [letter.position for letter in delivery.stream.dead_letters] == [3]
    assert (erased.acks, behind.acks) == (1, 1)
    assert {("1", "discarded"), ("2", "discarded")} <= {
        (id, status) for id, status, _ in delivery.source.statuses()
    }


@on_virtual_time
@pytest.mark.parametrize(("erased", "letters"), [({1}, []), ({2}, [1])])
async def test_an_event_erased_during_its_last_attempt_is_no_dead_letter(
    delivery: Delivery, erased: set[int], letters: list[int]
) -> None:
    message = delivery.event(1, "u_1")
    delivery.capture.judge = lambda _names: BAD_CONTENT
    delivery.capture.gate.clear()
    async with delivery.running():
        await delivery.deliver(message)
        # The longest time that OUTBOUND_WEBHOOK_TIMEOUT_MS allows.
        await asyncio.sleep(300)
        delivery.consumer.erased = erased
        delivery.capture.gate.set()
        await settle()
    assert [letter.position for letter in delivery.stream.dead_letters] == letters
    assert message.acks == 1
    status = "failed" if letters else "discarded"
    assert delivery.source.statuses() == [("1", status, 1)]


@on_virtual_time
async def test_an_event_erased_while_postgresql_was_down_is_not_sent(delivery: Delivery) -> None:
    erased = delivery.event(1, "u_1")
    delivery.consumer.erased = {1}
    delivery.source.refresh_failures = 100
    async with delivery.running():
        await delivery.sender.enqueue([erased, delivery.event(2, "u_2")])
        await settle()
    assert not delivery.source.refresh_failures
    assert delivery.capture.accepted == [("u_2", "e")]
    assert erased.acks == 1


@on_virtual_time
async def test_events_are_sent_while_erasures_cannot_be_checked(delivery: Delivery) -> None:
    delivery.consumer.reports_erased = False
    delivery.capture.judge = lambda _names: UNREACHABLE
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1"))
        await asyncio.sleep(2 * DELETED_CHECK_SECONDS)
        delivery.capture.judge = lambda _names: None
        await asyncio.sleep(3600)
    assert delivery.capture.of("u_1") == ["e"]


@on_virtual_time
async def test_no_request_is_sent_when_the_whole_batch_is_discarded(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda _names: BUSY
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1", "a"))
        delivery.source.stored = (1, {"b"})
        await asyncio.sleep(60)
    assert delivery.capture.attempts == [["a"]]
    assert delivery.source.statuses() == [("1", "discarded", 1)]


@on_virtual_time
async def test_nothing_is_sent_while_the_configuration_cannot_be_read(
    delivery: Delivery,
) -> None:
    async with delivery.running():
        delivery.source.refresh_failures = 3
        delivery.source.stored = (1, set())
        await delivery.deliver(delivery.event(1, "u_1", "a"))
        await asyncio.sleep(60)
    assert delivery.capture.attempts == []


@pytest.mark.parametrize(
    "error", [Unavailable("PostgreSQL is not available"), InvalidRequest("cannot hold this")]
)
@on_virtual_time
async def test_a_history_that_cannot_be_written_does_not_fail_delivery(
    delivery: Delivery, error: Exception
) -> None:
    delivery.source.history_fails = error
    first, second = delivery.event(1, "u_1", "first"), delivery.event(2, "u_1", "second")
    async with delivery.running():
        await delivery.deliver(first)
        await delivery.deliver(second)
        assert delivery.capture.of("u_1") == ["first", "second"]
        assert (first.acks, second.acks) == (1, 1)


@on_virtual_time
async def test_a_history_that_hangs_delays_the_acknowledgement_briefly(
    delivery: Delivery,
) -> None:
    delivery.source.history_hangs = True
    message = delivery.event(1, "u_1")
    async with delivery.running():
        await delivery.deliver(message)
        assert delivery.journal == []
        await asyncio.sleep(HISTORY_SECONDS + 0.1)
        assert delivery.journal == [Fact("ack", 1)]


@on_virtual_time
async def test_a_stop_waits_for_the_acknowledgement_of_events_that_posthog_accepted(
    delivery: Delivery,
) -> None:
    delivery.source.history_hangs = True
    message = delivery.event(1, "u_1")
    async with delivery.running() as sender:
        await delivery.deliver(message)
        await cancel_all(sender)
    assert sender.cancelled()
    assert delivery.journal == [Fact("ack", 1), Fact("nak'ed")]


@on_virtual_time
async def test_later_events_of_a_person_wait_for_the_first_and_others_do_not(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda names: BUSY if "stuck" in names else None
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1", "stuck"))
        await delivery.deliver(delivery.event(2, "u_1", "later"), delivery.event(3, "u_2"))
        assert delivery.capture.accepted == [("u_2", "e")]
        delivery.capture.judge = lambda _names: None
        await asyncio.sleep(60)
        assert delivery.capture.of("u_1") == ["stuck", "later"]


@on_virtual_time
async def test_case_142_a_temporary_failure_is_retried_with_growing_delays(
    delivery: Delivery,
) -> None:
    failures = [BUSY, UNREACHABLE, CaptureError("HTTP 429", 429)]
    delivery.capture.judge = lambda _names: failures.pop(0) if failures else None
    message = delivery.event(1, "u_1")
    async with delivery.running():
        await delivery.deliver(message)
        await asyncio.sleep(300)
        assert message.acks == 1
    assert delivery.source.statuses() == [("1", "delivered", 4)]
    pauses = [later - sooner for sooner, later in pairwise(delivery.capture.times)]
    for pause, doubled in zip(pauses, (10, 20, 40), strict=True):
        assert doubled <= pause <= doubled + delivery.policy.base_delay
    assert delivery.stream.dead_letters == []


@on_virtual_time
async def test_case_140_the_last_attempt_makes_a_dead_letter_that_names_the_url(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda _names: BUSY
    message = delivery.event(7, "u_1")
    async with delivery.running():
        await delivery.deliver(message)
        await asyncio.sleep(6 * 3600)
        assert message.acks == 1
    (letter,) = delivery.stream.dead_letters
    assert (letter.position, letter.reason, letter.attempts) == (7, "exhausted", 8)
    assert letter.detail == "Exhausted 8: HTTP 503 at https://posthog.test/batch/"
    assert delivery.source.statuses() == [("7", "failed", 8)]
    assert delivery.source.history[0].response_status == 503
    assert len(delivery.capture.attempts) == 8


@on_virtual_time
async def test_a_refused_event_is_isolated_and_the_others_are_delivered(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda names: BAD_CONTENT if "poison" in names else None
    names = ["poison" if number == 23 else f"e_{number}" for number in range(40)]
    messages = [delivery.event(n, f"u_{n % 7}", name) for n, name in enumerate(names)]
    async with delivery.running():
        await delivery.deliver(*messages)
        await settle(500)
        (letter,) = delivery.stream.dead_letters
        assert (letter.position, letter.reason, letter.attempts) == (23, "refused", 1)
        assert all(message.acks == 1 for message in messages)
    for person in range(7):
        own = [name for name in names[person::7] if name != "poison"]
        assert delivery.capture.of(f"u_{person}") == own


@on_virtual_time
async def test_an_event_that_makes_posthog_fail_is_isolated_and_the_others_are_delivered(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda names: BUSY if "poison" in names else None
    messages = [delivery.event(n, f"u_{n}", "poison" if n == 5 else "e") for n in range(16)]
    async with delivery.running():
        await delivery.deliver(*messages)
        await asyncio.sleep(6 * 3600)
    assert [letter.position for letter in delivery.stream.dead_letters] == [5]
    assert len(delivery.capture.accepted) == 15


@on_virtual_time
async def test_a_key_refused_twice_makes_dead_letters_of_the_whole_batch(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda _names: BAD_KEY
    async with delivery.running():
        await delivery.deliver(*(delivery.event(n, f"u_{n}") for n in range(4)))
        assert delivery.stream.dead_letters == []
        await asyncio.sleep(20)
        assert len(delivery.capture.attempts) == 2
        assert [letter.reason for letter in delivery.stream.dead_letters] == ["refused"] * 4


@on_virtual_time
async def test_retry_after_pauses_all_requests_to_the_project(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda _names: CaptureError("HTTP 429", 429, retry_after=3600)
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1"))
        delivery.capture.judge = lambda _names: None
        await delivery.deliver(delivery.event(2, "u_2"))
        await asyncio.sleep(3590)
        assert len(delivery.capture.attempts) == 1
        await asyncio.sleep(20)
        assert delivery.capture.of("u_2") == ["e"]
        assert delivery.capture.of("u_1") == ["e"]


@on_virtual_time
async def test_retry_after_pauses_no_longer_than_the_time_limit_of_an_event(
    delivery: Delivery,
) -> None:
    delivery.capture.judge = lambda _names: CaptureError("HTTP 429", 429, retry_after=1e9)
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1"))
        delivery.capture.judge = lambda _names: None
        await delivery.deliver(delivery.event(2, "u_2"))
        await asyncio.sleep(delivery.policy.max_delay + 10)
        assert delivery.capture.of("u_2") == ["e"]


@on_virtual_time
async def test_without_a_project_events_are_discarded_without_a_request(
    delivery: Delivery,
) -> None:
    delivery.source.project_result = None
    message = delivery.event(1, "u_1")
    async with delivery.running():
        await delivery.deliver(message)
        assert (delivery.capture.attempts, delivery.stream.dead_letters) == ([], [])
        assert message.acks == 1


@on_virtual_time
async def test_while_the_project_is_unknown_no_event_is_discarded(delivery: Delivery) -> None:
    delivery.source.project_result = Unavailable("the credentials service is not running")
    message = delivery.event(1, "u_1")
    async with delivery.running():
        with capture_logs() as logs:
            await delivery.deliver(message)
            await asyncio.sleep(30)
        assert not message.acks
        assert [line["reason"] for line in logs] == ["the credentials service is not running"]
        delivery.source.project_result = FakeSource([]).project_result
        await asyncio.sleep(10)
        assert delivery.capture.of("u_1") == ["e"]


@on_virtual_time
async def test_case_141_an_unusable_configuration_makes_a_dead_letter_and_no_request(
    delivery: Delivery,
) -> None:
    delivery.source.project_result = Unprocessable(
        "not_configured", "the destination has no apiKey"
    )
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1"))
        (letter,) = delivery.stream.dead_letters
        assert (letter.reason, letter.attempts) == ("not_configured", 1)
        assert delivery.capture.attempts == []


@on_virtual_time
async def test_an_unreadable_message_is_a_dead_letter_and_others_are_sent(
    delivery: Delivery,
) -> None:
    bad = delivery.event(1, "u_1", "malformed")
    stray = FakeMessage(2, stream=delivery.stream)
    async with delivery.running():
        await delivery.deliver(bad, stray, delivery.event(3, "u_1", "good"))
        assert [letter.reason for letter in delivery.stream.dead_letters] == ["malformed"]
        assert delivery.capture.of("u_1") == ["good"]
        assert (bad.acks, stray.acks) == (1, 1)


@on_virtual_time
async def test_a_message_without_a_stored_dead_letter_is_not_acknowledged(
    delivery: Delivery,
) -> None:
    delivery.stream.takes_dead_letters = False
    delivery.capture.judge = lambda _names: BAD_KEY
    unreadable = delivery.event(1, "u_1", "malformed")
    refused = [delivery.event(n, f"u_{n}") for n in (2, 3)]
    async with delivery.running():
        await delivery.deliver(unreadable, *refused)
        await asyncio.sleep(20)
        assert [message.acks for message in (unreadable, *refused)] == [0, 0, 0]
        # The others wait in the queue.
        assert [message.naks for message in (unreadable, *refused)] == [[5.0], [], []]
        assert delivery.source.history == []
        delivery.stream.takes_dead_letters = True
        await asyncio.sleep(10)
        assert [message.acks for message in refused] == [1, 1]


@on_virtual_time
async def test_no_event_overtakes_the_unacknowledged_events_of_the_previous_leader(
    delivery: Delivery,
) -> None:
    delivery.consumer.unacknowledged = 1
    async with delivery.running():
        await delivery.deliver(delivery.event(8, "u_1", "newer"), delivery.event(9, "u_2"))
        await asyncio.sleep(ACK_WAIT_SECONDS - 1)
        assert delivery.capture.attempts == []
        await delivery.deliver(delivery.event(7, "u_1", "older", deliveries=2))
        assert delivery.capture.of("u_1") == ["older", "newer"]


@on_virtual_time
async def test_the_same_redelivery_twice_counts_once(delivery: Delivery) -> None:
    delivery.consumer.unacknowledged = 2
    async with delivery.running():
        for _ in range(2):
            await delivery.deliver(delivery.event(6, "u_2", deliveries=2))
        await delivery.deliver(delivery.event(8, "u_1", "newer"))
        assert delivery.capture.attempts == []


@on_virtual_time
async def test_sending_starts_after_the_ack_wait_when_nothing_is_redelivered(
    delivery: Delivery,
) -> None:
    # The previous leader acknowledged in its last moment.
    delivery.consumer.unacknowledged = 3
    async with delivery.running():
        await delivery.deliver(delivery.event(9, "u_1"))
        await asyncio.sleep(ACK_WAIT_SECONDS)
        assert delivery.capture.attempts == []
        await asyncio.sleep(2)
        assert delivery.capture.of("u_1") == ["e"]


@on_virtual_time
async def test_an_event_is_not_sent_again_when_only_its_acknowledgement_was_lost(
    delivery: Delivery,
) -> None:
    lost = delivery.event(1, "u_1", broken=True)
    again = delivery.event(1, "u_1", deliveries=2)
    async with delivery.running():
        await delivery.deliver(lost)
        await delivery.deliver(again)
        assert delivery.capture.of("u_1") == ["e"]
        assert again.acks == 1


@on_virtual_time
async def test_events_of_a_recreated_stream_are_no_duplicates(delivery: Delivery) -> None:
    """Its positions start at 1 again, while this process remembers the settled positions."""
    before = delivery.event(1, "u_1", name="before")
    since = delivery.event(1, "u_1", name="since", queued_at=before.queued_at + timedelta(days=1))
    async with delivery.running():
        await delivery.deliver(before)
        await delivery.deliver(since)
        assert delivery.capture.of("u_1") == ["before", "since"]


@on_virtual_time
async def test_a_lost_acknowledgement_does_not_prevent_others(delivery: Delivery) -> None:
    lost, other = delivery.event(1, "u_1", broken=True), delivery.event(2, "u_2")
    async with delivery.running():
        await delivery.deliver(lost, other)
    assert (lost.acks, other.acks) == (0, 1)


@on_virtual_time
async def test_a_redelivered_event_that_still_waits_is_sent_once(delivery: Delivery) -> None:
    delivery.capture.judge = lambda _names: BUSY
    first, again = delivery.event(1, "u_1"), delivery.event(1, "u_1", deliveries=2)
    async with delivery.running():
        await delivery.deliver(first)
        await delivery.deliver(again)
        delivery.capture.judge = lambda _names: None
        await asyncio.sleep(60)
        assert delivery.capture.of("u_1") == ["e"]
        # Only the newer delivery can be acknowledged.
        assert (first.acks, again.acks) == (0, 1)


@on_virtual_time
async def test_a_stop_naks_unsent_messages(
    delivery: Delivery,
) -> None:
    delivery.capture.gate.clear()
    async with delivery.running() as sender:
        await delivery.deliver(*(delivery.event(n, f"u_{n % 2}") for n in range(4)))
        await cancel_all(sender)
        assert sender.cancelled()
    assert delivery.journal == [Fact("nak'ed")]


@on_virtual_time
async def test_the_consumer_runs_while_the_sender_runs(delivery: Delivery) -> None:
    async with delivery.running():
        assert delivery.consumer.runs
    assert not delivery.consumer.runs


@on_virtual_time
async def test_a_sender_waits_until_its_stream_exists(delivery: Delivery) -> None:
    delivery.consumer.refusals = 3
    async with delivery.running():
        assert not delivery.consumer.runs
        await asyncio.sleep(30)
        assert delivery.consumer.runs


@on_virtual_time
async def test_no_more_is_pulled_than_the_byte_limit_of_the_queue() -> None:
    count, size = 40, MAX_QUEUED_BYTES // 10
    delivery = Delivery()
    delivery.capture.judge = lambda _names: UNREACHABLE
    enqueued = 0

    async def pull() -> None:
        nonlocal enqueued
        for number in range(1, count + 1):
            await delivery.sender.enqueue([delivery.event(number, "p" * size, f"e_{number}")])
            enqueued = number

    async with delivery.running():
        pulling = asyncio.create_task(pull())
        await asyncio.sleep(100)
        # The call that fills the queue returns only once the queue has capacity.
        assert enqueued == MAX_QUEUED_BYTES // size - 1
        delivery.capture.judge = lambda _names: None
        await pulling
        await asyncio.sleep(3600)
    assert [name for _, name in delivery.capture.accepted] == [
        f"e_{n}" for n in range(1, count + 1)
    ]


@on_virtual_time
async def test_results_of_attempts_are_reported_except_refused_content(
    delivery: Delivery,
) -> None:
    async with delivery.running():
        for position, error in enumerate((BAD_KEY, BAD_CONTENT, UNREACHABLE), 1):
            delivery.capture.judge = lambda _names, error=error: error  # type: ignore[misc]
            await delivery.deliver(delivery.event(position, f"u_{position}"))
        assert delivery.results == ["test failed", "test failed"]
        assert [
            (result.attempts, result.response_status, result.error) for result in delivery.attempts
        ] == [
            (1, 401, "HTTP 401: no"),
            (1, None, "PostHog cannot be reached (ConnectError)"),
        ]
        assert [result.next_seconds for result in delivery.attempts] == pytest.approx(
            [12.5] * 2, abs=2.5
        )
        delivery.capture.judge = lambda _names: BAD_KEY
        await asyncio.sleep(20)
        # Only one attempt could not reach PostHog.
        (last,) = (result for result in delivery.attempts if result.next_seconds is None)
        assert last.attempts == 2
        delivery.capture.judge = lambda _names: None
        await delivery.deliver(delivery.event(4, "u_4"))
        assert delivery.results[-1] == "test worked"


@on_virtual_time
async def test_each_destination_has_its_own_series_until_it_ends(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSource, "destination_id", "d-1")
    delivery = Delivery()

    def measured() -> dict[str, float]:
        return {
            sample.name: sample.value
            for metric in (RETRIES, SETTLED, LAG, WAITING)
            for family in metric.collect()
            for sample in family.samples
            if sample.labels.get("destination") == "d-1"
        }

    delivery.capture.judge = lambda _names: BUSY
    async with delivery.running():
        await delivery.deliver(delivery.event(1, "u_1"))
        samples = measured()
        assert samples["hogsend_delivery_retries_total"] == 1
        assert samples["hogsend_delivery_waiting"] == 1
        assert "hogsend_delivery_lag" in samples
    assert measured() == {}
