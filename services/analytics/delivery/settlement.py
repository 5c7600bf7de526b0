"""How a message ends: its outcome is recorded, and then it is acknowledged."""

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
"""Longest that an acknowledgement waits for the history to be written."""
AGAIN_SECONDS = 5.0
"""Until a message is delivered again that could not be kept as a dead letter."""
REMEMBERED_PLACES = 10_000


class Settlement:
    """Settles the messages of one source.

    The history is written first: a reader who sees a message acknowledged finds its outcome there.
    It is for people, so a message is acknowledged even when PostgreSQL cannot take its outcome.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._settled = RecentPlaces(REMEMBERED_PLACES)

    def is_settled(self, message: DeliveryMessage) -> bool:
        """Whether it was settled before: it comes again when its acknowledgement was lost."""
        return (message.position, message.queued_at) in self._settled

    async def settle(
        self,
        messages: Sequence[DeliveryMessage],
        status: DeliveryStatus | None = None,
        outcomes: Iterable[Outcome] = (),
    ) -> None:
        """Record outcomes, then acknowledge messages; neither failure is raised.

        Args:
            messages: all of them ended alike.
            status: how they ended, to be counted; None for what was never an event.
            outcomes: gone through only for a source that has a history. Most have none, and
                describing each event would be a twentieth of the work on it.
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
        """Acknowledge messages; one whose acknowledgement is lost comes again."""
        is_told = False
        for message in messages:
            try:
                await message.ack()
            except Unavailable as error:
                FAILURES.labels("delivery_ack", error.code).inc()
                if not is_told:
                    log.warning("not acknowledged", source=self._source.name, reason=str(error))
                is_told = True

    async def set_aside(
        self, message: DeliveryMessage, why: Unprocessable, *, attempts: int
    ) -> bool:
        """Keep a message as a dead letter; False when that is not possible now.

        It must not be settled then. One that does not wait here is given back: see `give_back`.
        """
        source = self._source
        try:
            await message.set_aside(why, attempts=attempts, headers=source.dead_letter_headers)
        except HogsendError as error:
            FAILURES.labels("delivery_dead_letter", error.code).inc()
            log.warning("dead letter not kept", source=source.name, reason=str(error))
            return False
        DEAD_LETTERS.labels(source.name, source.destination_id, why.reason).inc()
        return True

    async def give_back(self, message: DeliveryMessage) -> None:
        """Have a message delivered again in a while; it is in no queue here until then."""
        try:
            await message.give_back(AGAIN_SECONDS)
        except Unavailable as error:
            FAILURES.labels("delivery_ack", error.code).inc()
            log.warning("not given back", source=self._source.name, reason=str(error))

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
        """Remember a place, and forget the oldest one beyond the capacity."""
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
    """What became of a message, for the history."""
    return Outcome(
        event_id=message_id(message.headers) or _id_in(message),
        event_type=message.subject.split(".", 2)[2],
        status=status,
        attempts=attempts,
        response_status=response_status,
        error=error,
    )


def _id_in(message: DeliveryMessage) -> str:
    """What the library would have published it as: the trace of an event looks for that."""
    happened = decode_engagement(message)
    return str(message.position) if happened is None else engagement_message_id(happened)
