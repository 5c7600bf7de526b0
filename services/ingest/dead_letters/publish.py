"""Messages that cannot be processed: set aside whole, then taken off their own stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import structlog

from hogsend.contract import subjects
from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.contract.headers import message_headers
from hogsend.service import metrics as shared_metrics
from hogsend.service.queued_message import QueuedMessage
from hogsend.transport.publisher import ACKNOWLEDGE_ALL_SECONDS, OutgoingMessage, Publisher
from services.ingest import metrics
from services.ingest.events.incoming_event import Unprocessable

log = structlog.get_logger(__name__)

TOO_LARGE = "too_large_for_bus"
RETRY_SECONDS = 30.0
"""A message that could not be set aside comes back after this long."""


class Failure(msgspec.Struct, frozen=True):
    """A message and why it cannot be processed."""

    message: QueuedMessage
    why: Unprocessable


class DeadLetters:
    """Sets failures aside on `hogsend.deadletter.<stream>`."""

    def __init__(self, publisher: Publisher) -> None:
        """Publish with `publisher`."""
        self._publisher = publisher

    async def publish(self, failures: Sequence[Failure]) -> None:
        """Publish each failure's dead letter and acknowledge it; otherwise let it come back.

        A dead letter that cannot be kept never costs the message and never holds up others.
        """
        for failure in failures:
            sequence = failure.message.metadata.sequence.stream
            reason = failure.why.reason
            try:
                await self._publisher.publish(_letter(failure), within=ACKNOWLEDGE_ALL_SECONDS)
            except (Unavailable, PublishRejected) as error:
                shared_metrics.FAILURES.labels("dead_letters", "Unavailable").inc()
                log.warning("dead letter not kept, will retry", reason=str(error), seq=sequence)
                await failure.message.nak(delay=RETRY_SECONDS)
                continue
            except TooLarge as error:
                metrics.UNDELIVERABLE.inc()
                log.warning(
                    "too large to be set aside, stays queued", reason=str(error), seq=sequence
                )
                await failure.message.nak(delay=RETRY_SECONDS)
                continue
            await failure.message.ack()
            metrics.DEAD_LETTERS.labels(reason).inc()
            log.warning("message set aside", reason=reason, seq=sequence)


def _letter(failure: Failure) -> OutgoingMessage:
    message, why, now = failure.message, failure.why, datetime.now(UTC)
    stream, sequence = message.metadata.stream, message.metadata.sequence.stream
    id = f"{stream}:{sequence}"
    letter = DeadLetter(
        id=id,
        stream=stream,
        subject=message.subject,
        reason=why.reason,
        detail=str(why),
        attempts=message.metadata.num_delivered,
        failed_at=now,
        headers=dict(message.headers or {}),
        # What is too large as an event is stored as a row, and would be larger still in here.
        body=b"" if why.reason == TOO_LARGE else message.data,
    )
    return OutgoingMessage(
        subjects.dead_letter(stream),
        msgspec.json.encode(letter),
        message_headers(id=id, source="ingest", type="deadletter", time=now),
    )
