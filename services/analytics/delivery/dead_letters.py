"""Messages that PostHog will never take: set aside whole, so that they can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import structlog
from nats.aio.msg import Msg
from prometheus_client import Counter

from hogsend.contract import subjects
from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.headers import message_headers
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

DEAD_LETTERS = Counter(
    "hogsend_delivery_dead_letters", "Events set aside instead of sent", ["source", "reason"]
)
_ROOM_BYTES = 8 * 1024


class DeadLetters:
    """Sets messages aside on `hogsend.deadletter.<stream>`."""

    def __init__(self, bus: Connection) -> None:
        """Publish on `bus`."""
        self._bus = bus

    async def bury(
        self,
        message: Msg,
        *,
        source: str,
        consumer: str,
        marks: Mapping[str, str],
        reason: str,
        detail: str,
        attempts: int,
    ) -> None:
        """Keep a message as a dead letter; it may be acknowledged when this returns.

        Raises:
            Unavailable: it could not be kept.
            nats.js.errors.APIError: the stream of dead letters refuses it, being full for example.
        """
        stream, sequence = message.metadata.stream, message.metadata.sequence.stream
        now = datetime.now(UTC)
        # Two destinations may each fail on the same message.
        id = f"{stream}:{sequence}:{consumer}"
        fits = len(message.data) * 4 / 3 + _ROOM_BYTES < self._bus.max_payload
        letter = DeadLetter(
            id=id,
            stream=stream,
            subject=message.subject,
            reason=reason,
            detail=detail,
            attempts=attempts,
            failed_at=now,
            headers={**(message.headers or {}), **marks},
            body=message.data if fits else b"",
        )
        headers = message_headers(id=id, source="analytics", type="deadletter", time=now)
        await self._bus.publish(subjects.dead_letter(stream), msgspec.json.encode(letter), headers)
        DEAD_LETTERS.labels(source, reason).inc()
        log.warning("event set aside", source=source, reason=reason, detail=detail, seq=sequence)
