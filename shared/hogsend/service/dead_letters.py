"""Dead letters: messages that no retry could process, stored so that they can be replayed."""

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
    """A retry of this message would fail too; `reason` is a stable code for the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class DeadLetters:
    """Publishes dead letters to `hogsend.deadletter.<stream>`."""

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
        """Publish a message as a dead letter. The message can be acknowledged afterwards.

        Args:
            message: as it was delivered from its stream.
            why: reason and detail.
            attempts: number of attempts.
            consumer: name of the consumer that failed, for a stream with several consumers. Each of
                them may dead-letter the same message, under an id of its own.
            marks: additional headers, which route the message back to the consumer on a replay.
            with_body: False omits the body of a message that is too large to store.

        Raises:
            Unavailable: NATS or JetStream is not available; nothing was stored.
            TooLarge: the letter exceeds NATS' maximum payload even when it is compressed.
            PublishRejected: the stream of dead letters rejected it.
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
                # A replay must use the time of the message, not that of the replay.
                RECEIVED_AT: format_time(message.metadata.timestamp),
                **(message.headers or {}),
                **(marks or {}),
            },
            body=message.data if with_body else b"",
        )
        headers = message_headers(id=id, source=self._source, type="deadletter", time=now)
        for write in _FORMATS:
            written = write(letter)
            outgoing = OutgoingMessage(
                subjects.dead_letter(stream), written.body, {**headers, **written.headers}
            )
            try:
                await self._publisher.publish(outgoing, within=ACKNOWLEDGE_ALL_SECONDS)
            except TooLarge:
                if write is _FORMATS[-1]:
                    raise
            else:
                break
        log.warning("message became a dead letter", reason=why.reason, stream=stream, seq=sequence)


_FORMATS = (
    write_letter,
    partial(write_large_letter, compressed=False),
    partial(write_large_letter, compressed=True),
)
"""The formats of a letter, the most readable first; the first one that fits into a message is
used."""
