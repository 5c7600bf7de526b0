"""Settles messages: records the outcome in the delivery history, then acknowledges the message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import structlog

from hogsend.contract.destinations import DeliveryStatus
from hogsend.contract.engagement import engagement_message_id
from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.headers import message_id
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.metrics import DEAD_LETTERS, SETTLED
from services.analytics.delivery.ordered_queue import Place
from services.analytics.delivery.sources.source import Source, decode_engagement
from services.analytics.delivery.streams import DeliveryMessage
from services.analytics.destinations.store import Outcome

log = structlog.get_logger(__name__)

HISTORY_SECONDS = 2.0
"""Longest wait of an acknowledgement for the history to be written."""
NAK_SECONDS = 5.0
"""Delay before the redelivery of a message that could not be published as a dead letter."""
REMEMBERED_PLACES = 10_000


class Settlement:
    """Settles the messages of one source.

    The history is written before the acknowledgement, so the outcome of an acknowledged message is
    in it. The history is informational: a message is acknowledged even when PostgreSQL cannot
    store its outcome.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._settled = RecentPlaces(REMEMBERED_PLACES)

    def is_settled(self, message: DeliveryMessage) -> bool:
        """Whether a message was settled before: its acknowledgement was lost."""
        return (message.position, message.queued_at) in self._settled

    async def settle(
        self,
        messages: Sequence[DeliveryMessage],
        status: DeliveryStatus | None = None,
        outcomes: Iterable[Outcome] = (),
    ) -> None:
        """Record outcomes, then acknowledge messages; neither failure is raised.

        Args:
            messages: messages with the same outcome.
            status: the outcome, which is counted; None for messages that became no event.
            outcomes: rows for the history. Iterated only for a source that has a history: creating
                them for the other sources would be a twentieth of the work on each event.
        """
        if status is not None:
            SETTLED.labels(self._source.name, self._source.destination_id, status).inc(
                len(messages)
            )
        if self._source.has_history and (recorded := list(outcomes)):
            await self._record(recorded)
        for message in messages:
            self._settled.add((message.position, message.queued_at))
        await self.acknowledge(messages)

    async def acknowledge(self, messages: Sequence[DeliveryMessage]) -> None:
        """Acknowledge messages; a message whose acknowledgement fails is redelivered."""
        is_logged = False
        for message in messages:
            try:
                await message.ack()
            except Unavailable as error:
                FAILURES.labels("delivery_ack", error.code).inc()
                if not is_logged:
                    log.warning("not acknowledged", source=self._source.name, reason=str(error))
                is_logged = True

    async def publish_dead_letter(
        self, message: DeliveryMessage, why: Unprocessable, *, attempts: int
    ) -> bool:
        """Publish a message as a dead letter; False when that is not possible now.

        After False the message must not be settled. If it is not queued either, `nak` it.
        """
        source = self._source
        try:
            await message.publish_dead_letter(
                why, attempts=attempts, headers=source.dead_letter_headers
            )
        except HogsendError as error:
            FAILURES.labels("delivery_dead_letter", error.code).inc()
            log.warning("dead letter not published", source=source.name, reason=str(error))
            return False
        DEAD_LETTERS.labels(source.name, source.destination_id, why.reason).inc()
        return True

    async def nak(self, message: DeliveryMessage) -> None:
        """Request redelivery after `NAK_SECONDS` of a message that is not queued here."""
        try:
            await message.nak(NAK_SECONDS)
        except Unavailable as error:
            FAILURES.labels("delivery_ack", error.code).inc()
            log.warning("nak not sent", source=self._source.name, reason=str(error))

    async def _record(self, outcomes: Sequence[Outcome]) -> None:
        try:
            async with asyncio.timeout(HISTORY_SECONDS):
                await self._source.record(outcomes)
        except (HogsendError, TimeoutError) as error:
            FAILURES.labels("delivery_history", type(error).__name__).inc()
            log.warning(
                "delivery history not written",
                source=self._source.name,
                events=len(outcomes),
                reason=str(error) or type(error).__name__,
            )


class RecentPlaces:
    """The most recently added places in a stream."""

    def __init__(self, capacity: int) -> None:
        self._places: set[Place] = set()
        self._oldest_first: deque[Place] = deque()
        self._capacity = capacity

    def __contains__(self, place: Place) -> bool:
        """Whether a place is remembered."""
        return place in self._places

    def add(self, place: Place) -> None:
        """Add a place, and remove the oldest beyond the capacity."""
        if place in self._places:
            return
        self._places.add(place)
        self._oldest_first.append(place)
        if len(self._oldest_first) > self._capacity:
            self._places.discard(self._oldest_first.popleft())


def outcome_of(
    message: DeliveryMessage,
    status: DeliveryStatus,
    *,
    attempts: int,
    response_status: int | None = None,
    error: str | None = None,
) -> Outcome:
    """Return the row of the delivery history for a message."""
    return Outcome(
        event_id=message_id(message.headers) or _id_in(message),
        event_type=message.subject.split(".", 2)[2],
        status=status,
        attempts=attempts,
        response_status=response_status,
        error=error,
    )


def _id_in(message: DeliveryMessage) -> str:
    """Return the id that the library would have set on a message without an id header.

    The trace of an event looks up deliveries by that id.
    """
    report = decode_engagement(message)
    return str(message.position) if report is None else engagement_message_id(report)
