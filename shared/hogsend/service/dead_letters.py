"""Dead letters: messages that no retry would help, set aside whole to be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import structlog

from hogsend.contract import subjects
from hogsend.contract.dead_letters import DeadLetter, write_large_letter, write_letter
from hogsend.contract.errors import TooLarge
from hogsend.contract.headers import RECEIVED_AT, format_time, message_headers
from hogsend.service.queued_message import QueuedMessage
from hogsend.transport.publisher import ACKNOWLEDGE_ALL_SECONDS, OutgoingMessage, Publisher

log = structlog.get_logger(__name__)


class Unprocessable(Exception):
    """No retry will help this message; `reason` is a stable code for the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class DeadLetters:
    """Sets messages aside on `hogsend.deadletter.<stream>`."""

    def __init__(self, publisher: Publisher, source: str) -> None:
        """Publish with `publisher`; `source` is the service's name."""
        self._publisher = publisher
        self._source = source

    async def publish(
        self,
        message: QueuedMessage,
        why: Unprocessable,
        *,
        attempts: int,
        consumer: str | None = None,
        marks: Mapping[str, str] | None = None,
        with_body: bool = True,
    ) -> None:
        """Keep a message as a dead letter; it may be acknowledged when this returns.

        Args:
            message: as it came from its stream.
            why: reason and detail.
            attempts: how often it was tried.
            consumer: name of the consumer that failed, when several read the stream: each may set
                the same message aside.
            marks: headers that lead the letter back, when it is replayed.
            with_body: False leaves the message itself out, for one too large to be kept.

        Raises:
            Unavailable: it could not be kept.
            TooLarge: even compressed it is larger than the bus takes.
            PublishRejected: the stream of dead letters refuses it.
        """
        stream, sequence = message.metadata.stream, message.metadata.sequence.stream
        now = datetime.now(UTC)
        id = ":".join(filter(None, (stream, str(sequence), consumer)))
        letter = DeadLetter(
            id=id,
            stream=stream,
            subject=message.subject,
            reason=why.reason,
            detail=str(why),
            attempts=attempts,
            failed_at=now,
            headers={
                # A replay comes later, and is about what happened then.
                RECEIVED_AT: format_time(message.metadata.timestamp),
                **(message.headers or {}),
                **(marks or {}),
            },
            body=message.data if with_body else b"",
        )
        headers = message_headers(id=id, source=self._source, type="deadletter", time=now)
        for write in _WAYS:
            written = write(letter)
            outgoing = OutgoingMessage(
                subjects.dead_letter(stream), written.body, {**headers, **written.headers}
            )
            try:
                await self._publisher.publish(outgoing, within=ACKNOWLEDGE_ALL_SECONDS)
            except TooLarge:
                if write is _WAYS[-1]:
                    raise
            else:
                break
        log.warning("message became a dead letter", reason=why.reason, stream=stream, seq=sequence)


_WAYS = (
    write_letter,
    partial(write_large_letter, compressed=False),
    partial(write_large_letter, compressed=True),
)
"""How a letter is written, the most readable first: the first one that the bus takes."""
