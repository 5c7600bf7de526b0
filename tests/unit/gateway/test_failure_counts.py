"""Counts of failures within one minute, in bounded memory."""

from __future__ import annotations

from services.gateway.failure_counts import FailureCounts


def test_a_count_restarts_after_a_minute() -> None:
    now = [100.0]
    counts = FailureCounts(2, clock=lambda: now[0])
    assert [counts.add("a") for _ in range(2)] == [1, 2]
    assert (counts.is_over("a"), counts.is_over("b")) == (True, False)
    now[0] += 59
    assert counts.is_over("a")
    now[0] += 1
    assert not counts.is_over("a")
    assert counts.add("a") == 1


def test_memory_is_bounded_for_any_number_of_addresses() -> None:
    counts = FailureCounts(1, max_entries=100)
    for number in range(1000):
        counts.add(number)
    assert len(counts) == 100
    assert counts.is_over(999)


def test_a_client_that_fails_again_after_a_minute_is_forgotten_last() -> None:
    now = [100.0]
    counts = FailureCounts(1, max_entries=2, clock=lambda: now[0])
    counts.add("a")
    counts.add("b")
    now[0] += 60
    counts.add("a")
    counts.add("c")
    assert counts.is_over("a")
