"""Plans the retry of a batch that PostHog did not accept (contract 6.5)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from hogsend.posthog.capture import CaptureError
from services.analytics.delivery.ordered_queue import Entry
from services.analytics.delivery.retry import RetryPolicy

HALVE_AFTER_ATTEMPTS = 3
"""After this many failures a batch is sent in halves: one of its events may cause the failure."""

MAX_REFUSALS = 2
"""Attempts that end in a refusal that is not about the events. The first refusal may be from a
proxy while PostHog is replaced, such as an ingress' own 404, so PostHog is asked once more."""

Origin = TypeVar("Origin")


def plan_retry(
    batch: Sequence[Entry[Origin]],
    error: CaptureError,
    policy: RetryPolicy,
    now: float,
    jitter: Callable[[], float] = random.random,
) -> list[Entry[Origin]]:
    """Count the attempt, and set when and in how large a batch each event is tried again.

    When PostHog rejects the content of a batch, repeated halving isolates the faulty event, and
    the other events are accepted.

    Args:
        batch: events that were sent together.
        error: why PostHog did not accept them.
        policy: limits of retries.
        now: seconds on the clock of `Entry.due_at`.
        jitter: returns a number between 0 and 1.

    Returns:
        The abandoned events, which are not tried again.
    """
    half = max(1, len(batch) // 2)
    if not error.is_retryable and error.is_about_content and len(batch) > 1:
        for entry in batch:
            entry.max_batch = half
        return []
    for entry in batch:
        entry.attempts += 1
        entry.first_tried_at = min(entry.first_tried_at, now)
        entry.refusals += not error.is_retryable
    if not error.is_retryable and error.is_about_content:
        return list(batch)
    abandoned = []
    shared_jitter = jitter()
    for entry in batch:
        elapsed = now - entry.first_tried_at
        # The same jitter for all events, so that the batch stays together.
        delay = policy.delay_after(
            entry.attempts, elapsed, error.retry_after, lambda: shared_jitter
        )
        is_refused = not error.is_retryable and entry.refusals >= MAX_REFUSALS
        if delay is None or is_refused:
            abandoned.append(entry)
            continue
        entry.due_at = now + delay
        if entry.attempts >= HALVE_AFTER_ATTEMPTS:
            entry.max_batch = half
    return abandoned
