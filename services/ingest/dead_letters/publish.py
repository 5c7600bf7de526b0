"""Replaces messages that cannot be processed by dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.service import metrics as shared_metrics
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.queued_message import QueuedMessage
from services.ingest import metrics
from services.ingest.erasure.freshness import is_stale

log = structlog.get_logger(__name__)

TOO_LARGE = "too_large_for_bus"
RETRY_SECONDS = 30.0
"""A message whose dead letter could not be published is redelivered after this time."""


class Failure(msgspec.Struct, frozen=True):
    """A message and why it cannot be processed."""

    message: QueuedMessage
    why: Unprocessable


async def publish(
    dead_letters: DeadLetters, failures: Sequence[Failure], *, since: float | None = None
) -> None:
    """Publish a dead letter for each failure and acknowledge its message.

    A message whose dead letter cannot be published is nak'ed: it is redelivered later, and the
    others are processed meanwhile.

    Args:
        dead_letters: publishes the letters.
        failures: messages that cannot be processed.
        since: seconds on the loop's clock, before the messages were received; None for messages
            that are about no person. A stale message is nak'ed once: if an erasure has deleted it
            from its stream, it is not redelivered.
    """
    for failure in failures:
        message, why = failure.message, failure.why
        if since is not None and is_stale(since) and message.metadata.num_delivered == 1:
            await message.nak()
            log.info("a stale message is fetched again before it becomes a dead letter")
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
            _log_unpublished(message, error)
        else:
            await message.ack()
            metrics.DEAD_LETTERS.labels(why.reason).inc()


def _log_unpublished(
    message: QueuedMessage, error: Unavailable | PublishRejected | TooLarge
) -> None:
    if isinstance(error, TooLarge):
        metrics.UNDELIVERABLE.inc()
    else:
        shared_metrics.FAILURES.labels("dead_letters", type(error).__name__).inc()
    log.warning(
        "dead letter not published, its message is redelivered later",
        reason=str(error),
        seq=message.metadata.sequence.stream,
    )
