"""Events that PostHog will never take: kept whole as dead letters, so that they can be replayed."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import structlog
from prometheus_client import Counter

from hogsend.contract import subjects
from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.headers import message_headers
from hogsend.transport.connection import Connection
from services.analytics.delivery.sources.source import Source
from services.analytics.delivery.streams import DeliveryMessage

log = structlog.get_logger(__name__)

DEAD_LETTERS = Counter(
    "hogsend_delivery_dead_letters", "Events set aside instead of sent", ["source", "reason"]
)
_ROOM_BYTES = 8 * 1024


class DeadLetters:
    """Publishes dead letters on `hogsend.deadletter.<stream>`."""

    def __init__(self, bus: Connection) -> None:
        self._bus = bus

    async def publish(
        self, message: DeliveryMessage, source: Source, *, reason: str, detail: str, attempts: int
    ) -> None:
        """Keep a message as a dead letter; it may be acknowledged when this returns.

        Raises:
            HogsendError: it cannot be kept now; for example, the stream is full.
        """
        now = datetime.now(UTC)
        # Two destinations may each fail on the same message.
        id = f"{message.stream}:{message.position}:{source.subscription.durable}"
        fits = len(message.body) * 4 / 3 + _ROOM_BYTES < self._bus.max_payload
        letter = DeadLetter(
            id=id,
            stream=message.stream,
            subject=message.subject,
            reason=reason,
            detail=detail,
            attempts=attempts,
            failed_at=now,
            headers={**message.headers, **source.dead_letter_headers},
            body=message.body if fits else b"",
        )
        headers = message_headers(id=id, source="analytics", type="deadletter", time=now)
        body = msgspec.json.encode(letter)
        await self._bus.publish(subjects.dead_letter(message.stream), body, headers)
        DEAD_LETTERS.labels(source.name, reason).inc()
        log.warning(
            "event set aside",
            source=source.name,
            reason=reason,
            detail=detail,
            seq=message.position,
        )
