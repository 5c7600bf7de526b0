"""Replaces messages that cannot be processed by dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.service import metrics as shared_metrics
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.queued_message import QueuedMessage
from services.ingest import metrics

log = structlog.get_logger(__name__)

TOO_LARGE = "too_large_for_bus"
RETRY_SECONDS = 30.0
"""A message without a dead letter is redelivered after this long."""

LATE_SECONDS = 10.0
"""After so long a message is asked for again first: an erasure may have deleted it from its stream.

It is well below the pause between the two sweeps of an erasure: the second one finds the letter.
"""


class Failure(msgspec.Struct, frozen=True):
    """A message and why it cannot be processed."""

    message: QueuedMessage
    why: Unprocessable


async def publish(
    dead_letters: DeadLetters, failures: Sequence[Failure], *, since: float | None = None
) -> None:
    """Publish a dead letter for each failure and acknowledge its message.

    A message whose dead letter cannot be published is returned to its stream. It is not lost and
    holds up no other.

    Args:
        dead_letters: where letters are kept.
        failures: what failed.
        since: seconds on the loop's clock since when the messages are in hand; None for those that
            are about no person. One that has been for long is returned to its stream once.
    """
    for failure in failures:
        message, why = failure.message, failure.why
        is_late = since is not None and _now() - since >= LATE_SECONDS
        if is_late and message.metadata.num_delivered == 1:
            await message.nak()
            log.info("a message that waited is asked for again before it becomes a dead letter")
            continue
        try:
            await dead_letters.publish(
                message,
                why,
                attempts=message.metadata.num_delivered,
                # The event is stored as a row, and the letter would be larger than the event.
                with_body=why.reason != TOO_LARGE,
            )
        except (Unavailable, PublishRejected, TooLarge) as error:
            await message.nak(RETRY_SECONDS)
            _not_published(message, error)
        else:
            await message.ack()
            metrics.DEAD_LETTERS.labels(why.reason).inc()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _not_published(message: QueuedMessage, error: Unavailable | PublishRejected | TooLarge) -> None:
    if isinstance(error, TooLarge):
        metrics.UNDELIVERABLE.inc()
    else:
        shared_metrics.FAILURES.labels("dead_letters", type(error).__name__).inc()
    log.warning(
        "dead letter not published, its message is redelivered later",
        reason=str(error),
        seq=message.metadata.sequence.stream,
    )
