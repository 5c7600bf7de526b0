"""Lanes: each person's events in order, and nobody waits for somebody else's."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from services.analytics.delivery.ordered_queue import MAX_GROUP_BYTES, Entry, Lanes


def entry(position: int, lane: str, size: int = 10) -> Entry[None]:
    return Entry(position, lane, b"x" * size, None)


def filled(*lanes: str) -> Lanes[None]:
    made: Lanes[None] = Lanes()
    for position, lane in enumerate(lanes):
        assert made.add(entry(position, lane))
    return made


def positions(group: list[Entry[None]]) -> list[int]:
    return [one.position for one in group]


def test_a_group_holds_several_of_one_person_in_order() -> None:
    assert positions(filled("a", "b", "a").take(0, 10)) == [0, 1, 2]


def test_what_follows_somebody_on_the_way_waits() -> None:
    lanes = filled("a", "b", "a", "b", "c")
    assert positions(lanes.take(0, 2)) == [0, 1]
    assert positions(lanes.take(0, 10)) == [4]


def test_what_follows_somebody_who_waits_for_an_attempt_waits_and_others_go_on() -> None:
    lanes = filled("a", "b", "a")
    (first, other, _) = group = lanes.take(0, 10)
    lanes.settle([other])
    first.due_at = 5
    lanes.put_back(group)
    assert lanes.take(1, 10) == []
    assert lanes.next_due(1) == 4
    lanes.add(entry(3, "c"))
    assert positions(lanes.take(1, 10)) == [3]
    assert positions(lanes.take(5, 10)) == [0, 2]


def test_a_suspect_gets_less_company_until_it_is_alone() -> None:
    lanes = filled("a", "b", "c", "d")
    group = lanes.take(0, 10)
    for one in group:
        one.company = 2
    lanes.put_back(group)
    half = lanes.take(0, 10)
    assert positions(half) == [0, 1]
    for one in half:
        one.company = 1
    lanes.put_back(half)
    assert positions(lanes.take(0, 10)) == [0]
    assert positions(lanes.take(0, 10)) == [1]
    assert positions(lanes.take(0, 10)) == [2, 3]


def test_a_group_is_bounded_in_bytes_but_one_large_event_goes_alone() -> None:
    lanes: Lanes[None] = Lanes()
    lanes.add(entry(0, "a", MAX_GROUP_BYTES + 1))
    lanes.add(entry(1, "b"))
    assert positions(lanes.take(0, 10)) == [0]
    assert positions(lanes.take(0, 10)) == [1]


def test_a_redelivered_event_is_not_queued_twice() -> None:
    lanes = filled("a")
    assert not lanes.add(entry(0, "a"))
    assert len(lanes) == 1


def test_a_redelivered_older_event_goes_before_newer_ones() -> None:
    lanes: Lanes[None] = Lanes()
    lanes.add(entry(7, "a"))
    lanes.add(entry(3, "a"))
    assert positions(lanes.take(0, 10)) == [3, 7]


@dataclass
class PostHog:
    """Takes what it is sent, unless it fails."""

    got: list[tuple[str, int]] = field(default_factory=list)


@given(
    people=st.lists(st.sampled_from("abcd"), max_size=40),
    failures=st.lists(st.booleans(), max_size=60),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=20),
)
def test_whatever_fails_everybody_is_sent_once_and_in_order(
    people: list[str], failures: list[bool], sizes: list[int]
) -> None:
    lanes, posthog = filled(*people), PostHog()
    now, turn = 0.0, 0
    while len(lanes):
        group = lanes.take(now, sizes[turn % len(sizes)])
        if not group:
            now += lanes.next_due(now) or 0
            continue
        fails = turn < len(failures) and failures[turn]
        turn += 1
        for one in group:
            if fails:
                one.due_at = now + 1
            else:
                posthog.got.append((one.lane, one.position))
        if not fails:
            lanes.settle(group)
        lanes.put_back(group)
    assert sorted(position for _, position in posthog.got) == list(range(len(people)))
    for person in "abcd":
        own = [position for lane, position in posthog.got if lane == person]
        assert own == sorted(own)
