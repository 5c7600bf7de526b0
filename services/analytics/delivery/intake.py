"""Maps messages to queued events, and settles the messages that map to none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hogsend.posthog.capture import encode
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.retry import retry_until_available
from services.analytics.delivery.ordered_queue import Entry, OrderedQueue
from services.analytics.delivery.send_gate import SendGate
from services.analytics.delivery.settlement import Settlement, outcome_of
from services.analytics.delivery.sources.source import Skipped, Source
from services.analytics.delivery.streams import DeliveryMessage

REFRESH_RETRY_SECONDS = 1.0


class Intake:
    """Reads the messages of one source into its queue."""

    def __init__(
        self,
        source: Source,
        queue: OrderedQueue[DeliveryMessage],
        gate: SendGate,
        settlement: Settlement,
    ) -> None:
        self._source = source
        self._queue = queue
        self._gate = gate
        self._settlement = settlement

    async def enqueue(self, messages: Sequence[DeliveryMessage]) -> None:
        """Queue the events to send.

        Messages that were settled before, that map to no event, or that became dead letters are
        acknowledged.
        """
        received_at = asyncio.get_running_loop().time()
        # A stale configuration must not be used: the API confirmed the change to an operator as
        # effective.
        await retry_until_available(self._source.refresh, wait_max=REFRESH_RETRY_SECONDS)
        repeated: list[DeliveryMessage] = []
        skipped: list[DeliveryMessage] = []
        unmapped: list[DeliveryMessage] = []
        for message in messages:
            if message.deliveries > 1:
                self._gate.redelivered(message.position)
            if self._settlement.is_settled(message):
                repeated.append(message)
                continue
            try:
                captured = self._source.read(message)
            except Skipped:
                skipped.append(message)
            except Unprocessable as error:
                if await self._settlement.publish_dead_letter(message, error, attempts=0):
                    unmapped.append(message)
                else:
                    await self._settlement.nak(message)
            else:
                if captured is None:
                    unmapped.append(message)
                    continue
                entry = Entry(
                    message.position,
                    captured.distinct_id,
                    encode(captured),
                    message,
                    message.queued_at,
                    self._source.revision,
                    # Not the current time: `refresh` may have waited long for PostgreSQL, and an
                    # event that was erased meanwhile must not be sent.
                    checked_at=received_at,
                )
                self._queue.add(entry)
        await self._settlement.acknowledge(repeated)
        await self._settlement.settle(unmapped)
        await self._settlement.settle(
            skipped,
            "skipped",
            (outcome_of(message, "skipped", attempts=1) for message in skipped),
        )
