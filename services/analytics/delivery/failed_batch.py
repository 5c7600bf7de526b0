"""What becomes of a batch that PostHog did not take (contract 6.5)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from hogsend.posthog.capture import CaptureError
from services.analytics.delivery.ordered_queue import Entry
from services.analytics.delivery.retry import RetryPolicy

HALVE_AFTER_ATTEMPTS = 3
"""After so many failures a batch is sent in halves: one of its events may be what fails."""

MAX_REFUSALS = 2
"""A refusal that is not about the events may come from what is in front of PostHog while it is
replaced, such as an ingress' own 404. So it is asked once more."""

Origin = TypeVar("Origin")


def plan_retry(
    batch: Sequence[Entry[Origin]],
    error: CaptureError,
    policy: RetryPolicy,
    now: float,
    jitter: Callable[[], float] = random.random,
) -> list[Entry[Origin]]:
    """Count the attempt and decide when and in which company each event is tried again.

    When PostHog objects to the content, halving the batch again and again finds the event at fault,
    and the others are taken.

    Args:
        batch: events that were sent together.
        error: why PostHog did not take them.
        policy: limits of retries.
        now: seconds on the clock of `Entry.due_at`.
        jitter: gives a number between 0 and 1.

    Returns:
        Events that are not tried again.
    """
    half = max(1, len(batch) // 2)
    if not error.may_pass and error.is_about_content and len(batch) > 1:
        for entry in batch:
            entry.max_batch = half
        return []
    for entry in batch:
        entry.attempts += 1
        entry.first_tried_at = min(entry.first_tried_at, now)
        entry.refusals += not error.may_pass
    if not error.may_pass and error.is_about_content:
        return list(batch)
    given_up = []
    spread = jitter()
    for entry in batch:
        elapsed = now - entry.first_tried_at
        # The same jitter for all, so that the batch stays together.
        delay = policy.delay_after(entry.attempts, elapsed, error.retry_after, lambda: spread)
        is_refused = not error.may_pass and entry.refusals >= MAX_REFUSALS
        if delay is None or is_refused:
            given_up.append(entry)
            continue
        entry.due_at = now + delay
        if entry.attempts >= HALVE_AFTER_ATTEMPTS:
            entry.max_batch = half
    return given_up
