"""How often and when a delivery is tried again (contract 6.5)."""

from __future__ import annotations

import pytest

from services.analytics.delivery.retry import RetryPolicy

CONTRACT = RetryPolicy()


def no_jitter() -> float:
    return 0.0


def test_delays_double_and_there_are_eight_attempts() -> None:
    elapsed, delays = 0.0, []
    for attempts in range(1, 9):
        delay = CONTRACT.delay_after(attempts, elapsed, jitter=no_jitter)
        delays.append(delay)
        elapsed += delay or 0
    assert delays == [10, 20, 40, 80, 160, 320, 640, None]


def test_jitter_adds_up_to_one_base_delay() -> None:
    assert CONTRACT.delay_after(1, 0, jitter=lambda: 1.0) == 15


@pytest.mark.parametrize(("retry_after", "delay"), [(120.0, 120.0), (3.0, 10.0), (None, 10.0)])
def test_retry_after_may_lengthen_a_delay_and_never_shortens_it(
    retry_after: float | None, delay: float
) -> None:
    assert CONTRACT.delay_after(1, 0, retry_after, no_jitter) == delay


def test_an_attempt_that_would_fall_after_six_hours_is_not_made() -> None:
    assert CONTRACT.delay_after(3, 21_590, jitter=no_jitter) is None
    assert CONTRACT.delay_after(2, 20_000, 86_400, no_jitter) is None
