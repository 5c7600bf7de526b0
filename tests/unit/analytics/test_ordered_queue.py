"""The ordered queue: each key's events stay in order, and one key never waits for another."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.analytics.delivery.ordered_queue import MAX_BATCH_BYTES, Entry, OrderedQueue
from tests.unit.analytics.delivery_fakes import QUEUED_AT


def entry(position: int, key: str, size: int = 10) -> Entry[None]:
    return Entry(position, key, b"x" * size, None)


def filled(*keys: str) -> OrderedQueue[None]:
    queue: OrderedQueue[None] = OrderedQueue()
    for position, key in enumerate(keys):
        assert queue.add(entry(position, key))
    return queue


def positions(group: list[Entry[None]]) -> list[int]:
    return [entry.position for entry in group]


def test_a_batch_contains_several_events_of_one_key_in_order() -> None:
    assert positions(filled("a", "b", "a").take(0, 10)) == [0, 1, 2]


def test_events_wait_while_an_earlier_one_of_their_key_is_in_flight() -> None:
    queue = filled("a", "b", "a", "b", "c")
    assert positions(queue.take(0, 2)) == [0, 1]
    assert positions(queue.take(0, 10)) == [4]


def test_events_wait_for_a_delayed_one_of_their_key_and_other_keys_do_not() -> None:
    queue = filled("a", "b", "a")
    (first, other, _) = group = queue.take(0, 10)
    queue.remove([other])
    first.due_at = 5
    queue.release(group)
    assert queue.take(1, 10) == []
    assert queue.next_due(1) == 4
    queue.add(entry(3, "c"))
    assert positions(queue.take(1, 10)) == [3]
    assert positions(queue.take(5, 10)) == [0, 2]


def test_a_batch_shrinks_with_the_limit_of_its_entries() -> None:
    queue = filled("a", "b", "c", "d")
    group = queue.take(0, 10)
    for each in group:
        each.max_batch = 2
    queue.release(group)
    half = queue.take(0, 10)
    assert positions(half) == [0, 1]
    for each in half:
        each.max_batch = 1
    queue.release(half)
    assert positions(queue.take(0, 10)) == [0]
    assert positions(queue.take(0, 10)) == [1]
    assert positions(queue.take(0, 10)) == [2, 3]


def test_a_batch_is_bounded_in_bytes_but_one_large_event_goes_alone() -> None:
    queue: OrderedQueue[None] = OrderedQueue()
    queue.add(entry(0, "a", MAX_BATCH_BYTES + 1))
    queue.add(entry(1, "b"))
    assert positions(queue.take(0, 10)) == [0]
    assert positions(queue.take(0, 10)) == [1]


def test_the_byte_count_of_a_queue_is_that_of_its_queued_events() -> None:
    """They limit how much is pulled: if they only grew, nothing more would be pulled."""
    queue = filled("a", "b")
    first, _ = group = queue.take(0, 10)
    queue.rewrite(first, b"x" * 50, 2)
    assert queue.bytes == 60
    queue.rewrite(first, b"x", 3)
    assert queue.bytes == 11
    queue.remove(group)
    assert queue.bytes == 0


def test_a_redelivered_event_is_not_queued_twice() -> None:
    queue = filled("a")
    assert not queue.add(entry(0, "a"))
    assert len(queue) == 1


def test_an_event_of_a_recreated_stream_is_another_event() -> None:
    queue: OrderedQueue[None] = OrderedQueue()
    before, since = entry(0, "a"), entry(0, "a")
    before.queued_at, since.queued_at = QUEUED_AT, QUEUED_AT + timedelta(days=1)
    assert queue.add(since)
    assert queue.add(before)
    group = queue.take(0, 10)
    assert group == [before, since]
    queue.remove([before])
    assert [*queue] == [since]


def at(position: int, seconds: float) -> Entry[None]:
    created = entry(position, "a")
    created.queued_at = QUEUED_AT + timedelta(seconds=seconds)
    return created


def add_and_take(queue: OrderedQueue[None], *entries: Entry[None]) -> list[int]:
    for each in entries:
        assert queue.add(each)
    group = queue.take(0, 10)
    queue.remove(group)
    return positions(group)


def test_an_event_is_sent_after_those_of_the_earlier_stream_of_the_same_name() -> None:
    queue: OrderedQueue[None] = OrderedQueue()
    assert add_and_take(queue, at(5000, 20), at(2, 3601), at(4999, 10), at(1, 3600)) == [
        4999,
        5000,
        1,
        2,
    ]
    # The queue remembers a stream after its entries are removed; the next stream may be lost, too.
    later = at(7, 3700), at(6, 3650), at(3, 7200), at(4998, 9)
    assert add_and_take(queue, *later) == [4998, 6, 7, 3]
    # It may overtake messages that the stream has lost.
    assert add_and_take(queue, at(9000, 9000), at(8999, 8000)) == [8999, 9000]


def test_events_of_two_leaders_with_different_clocks_stay_in_order_of_position() -> None:
    queue: OrderedQueue[None] = OrderedQueue()
    assert add_and_take(queue, at(101, 0), at(100, 0.9)) == [100, 101]


def test_a_redelivered_older_event_goes_before_newer_ones() -> None:
    queue: OrderedQueue[None] = OrderedQueue()
    queue.add(entry(7, "a"))
    queue.add(entry(3, "a"))
    assert positions(queue.take(0, 10)) == [3, 7]


@dataclass
class PostHog:
    """Accepts the events that it is sent, unless it fails."""

    received: list[tuple[str, int]] = field(default_factory=list)


@given(
    people=st.lists(st.sampled_from("abcd"), max_size=40),
    failures=st.lists(st.booleans(), max_size=60),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=20),
)
def test_every_event_is_sent_once_and_in_order_whatever_fails(
    people: list[str], failures: list[bool], sizes: list[int]
) -> None:
    queue, posthog = filled(*people), PostHog()
    now, requests = 0.0, 0
    while len(queue):
        group = queue.take(now, sizes[requests % len(sizes)])
        if not group:
            now += queue.next_due(now) or 0
            continue
        fails = requests < len(failures) and failures[requests]
        requests += 1
        for sent in group:
            if fails:
                sent.due_at = now + 1
            else:
                posthog.received.append((sent.key, sent.position))
        if not fails:
            queue.remove(group)
        queue.release(group)
    assert sorted(position for _, position in posthog.received) == list(range(len(people)))
    for person in "abcd":
        own = [position for key, position in posthog.received if key == person]
        assert own == sorted(own)
