"""The retry of a batch that PostHog did not accept (contract 6.5)."""

from __future__ import annotations

import math

import pytest

from hogsend.posthog.capture import CaptureError
from services.analytics.delivery.failed_batch import HALVE_AFTER_ATTEMPTS, plan_retry
from services.analytics.delivery.ordered_queue import Entry
from services.analytics.delivery.retry import RetryPolicy

POLICY = RetryPolicy(max_attempts=8, base_delay=5, max_delay=21_600)
NOW = 1_000.0


def batch(size: int, attempts: int = 0) -> list[Entry[None]]:
    return [Entry(n, f"u_{n}", b"{}", None, attempts=attempts) for n in range(size)]


def test_events_of_a_batch_stay_together() -> None:
    entries = batch(5)
    assert plan_retry(entries, CaptureError("HTTP 503", 503), POLICY, NOW) == []
    assert len({entry.due_at for entry in entries}) == 1
    assert NOW + 10 <= entries[0].due_at <= NOW + 15


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_content_that_posthog_refuses_is_sent_again_at_once_in_halves(status: int) -> None:
    entries = batch(5)
    assert plan_retry(entries, CaptureError("no", status), POLICY, NOW) == []
    assert [(entry.max_batch, entry.due_at, entry.attempts) for entry in entries] == [
        (2, 0.0, 0)
    ] * 5


def test_an_event_that_is_refused_alone_is_abandoned() -> None:
    entries = batch(1)
    assert plan_retry(entries, CaptureError("no", 400), POLICY, NOW) == entries
    assert entries[0].attempts == 1


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_a_refusal_unrelated_to_content_is_retried_once(status: int) -> None:
    entries = batch(3)
    assert plan_retry(entries, CaptureError("no", status), POLICY, NOW) == []
    assert NOW + 10 <= entries[0].due_at <= NOW + 15
    assert plan_retry(entries, CaptureError("no", status), POLICY, NOW + 15) == entries
    assert [entry.attempts for entry in entries] == [2] * 3


def test_a_refusal_after_an_outage_is_retried_once() -> None:
    """While PostHog is replaced, a proxy returns 502, and then its own 404."""
    entries = batch(1, attempts=3)
    assert plan_retry(entries, CaptureError("no", 404), POLICY, NOW) == []
    assert plan_retry(entries, CaptureError("HTTP 502", 502), POLICY, NOW) == []
    assert plan_retry(entries, CaptureError("no", 404), POLICY, NOW) == entries
    # The dead letter could not be stored, and PostHog is unavailable again.
    assert plan_retry(entries, CaptureError("HTTP 502", 502), POLICY, NOW) == []


def test_a_refusal_is_not_retried_beyond_the_configured_attempts() -> None:
    entries, once = batch(1), RetryPolicy(max_attempts=1)
    assert plan_retry(entries, CaptureError("no", 404), once, NOW) == entries


def test_a_batch_that_fails_repeatedly_is_halved() -> None:
    fresh, old = batch(4), batch(4, attempts=HALVE_AFTER_ATTEMPTS - 1)
    for entries in (fresh, old):
        assert plan_retry(entries, CaptureError("unreachable"), POLICY, NOW) == []
    assert {entry.max_batch for entry in fresh} == {math.inf}
    assert {entry.max_batch for entry in old} == {2}


def test_only_events_without_attempts_left_are_abandoned() -> None:
    fresh, old = batch(1), batch(2, attempts=7)[1:]
    assert plan_retry([*fresh, *old], CaptureError("HTTP 500", 500), POLICY, NOW) == old


def test_the_time_limit_counts_from_the_first_attempt() -> None:
    entries = batch(1)
    assert plan_retry(entries, CaptureError("HTTP 500", 500), POLICY, 0.0) == []
    late = POLICY.max_delay - 1
    assert plan_retry(entries, CaptureError("HTTP 500", 500), POLICY, late) == entries
