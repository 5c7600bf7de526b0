"""From a batch of queued messages to stored and announced events.

The order is the promise: commit, publish, acknowledge. Whatever happens in between, the message
comes back, and neither the row nor the message on the bus appears a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from nats.aio.msg import Msg

from hogsend.contract.errors import PublishRejected, Unavailable
from hogsend.service.retry import retry_until_available
from hogsend.transport.publisher import Outcome, OutgoingMessage, Publisher
from services.ingest import metrics
from services.ingest.dead_letters.publish import TOO_LARGE, DeadLetters, Failure
from services.ingest.events.event_message import event_message
from services.ingest.events.incoming_event import EventRef, IncomingEvent, Unprocessable
from services.ingest.events.store import EventStore, Saved

Decode = Callable[[Msg], IncomingEvent | None]
"""What a message means; None when nothing is to be stored. Raises `Unprocessable`."""


class Received(msgspec.Struct, frozen=True):
    """A message and what it means."""

    message: Msg
    event: IncomingEvent


class EventProcessor:
    """Processes batches; waits for PostgreSQL and NATS as long as it takes."""

    def __init__(
        self, decode: Decode, store: EventStore, publisher: Publisher, dead_letters: DeadLetters
    ) -> None:
        """Store what `read` makes of messages, announce it, set the rest aside."""
        self._decode = decode
        self._store = store
        self._publisher = publisher
        self._dead_letters = dead_letters

    async def process(self, messages: Sequence[Msg]) -> None:
        """Store, announce and acknowledge a batch."""
        received, failures = await self._decode_all(messages)
        saved, attempts = await self._save([one.event for one in received])
        # A failed attempt may have committed unnoticed, which makes new events look known.
        oversized = await self._publish(received, saved, sure=attempts == 1)
        for one in received:
            ref = one.event.ref
            if why := saved.rejected.get(ref) or oversized.get(ref):
                failures.append(Failure(one.message, why))
            else:
                await one.message.ack()
        await self._dead_letters.publish(failures)
        metrics.STORED.inc(len(saved.new))
        metrics.DUPLICATES.inc(len(received) - len(saved.new) - len(saved.rejected))

    async def _decode_all(self, messages: Sequence[Msg]) -> tuple[list[Received], list[Failure]]:
        received: list[Received] = []
        failures: list[Failure] = []
        for message in messages:
            try:
                event = self._decode(message)
            except Unprocessable as why:
                failures.append(Failure(message, why))
                continue
            if event is None:
                await message.ack()
            else:
                received.append(Received(message, event))
        return received, failures

    async def _save(self, events: Sequence[IncomingEvent]) -> tuple[Saved, int]:
        if not events:
            return Saved({}, frozenset(), {}), 1
        return await retry_until_available(lambda: self._store.save(events))

    async def _publish(
        self, received: Sequence[Received], saved: Saved, *, sure: bool
    ) -> dict[EventRef, Unprocessable]:
        """Publish every event that may not have been published; returns the oversized ones."""
        events: dict[EventRef, OutgoingMessage] = {}
        for one in received:
            ref = one.event.ref
            # Whoever stored this message may have died before publishing it. JetStream says that it
            # was delivered before, unless it was killed too and has forgotten; the row remembers.
            before = _redelivered(one.message) or ref in saved.again
            unsure = ref in saved.new or not sure or before
            if unsure and ref in saved.contact_keys:
                events[ref] = event_message(one.event, saved.contact_keys[ref])
        outgoing = list(events.values())
        outcomes, _ = await retry_until_available(lambda: self._publish_all(outgoing))
        metrics.ANNOUNCED.inc(outcomes.count(None))
        return {
            ref: Unprocessable(TOO_LARGE, f"stored, but not announced: {len(message.body)} bytes")
            for (ref, message), outcome in zip(events.items(), outcomes, strict=True)
            if outcome is not None
        }

    async def _publish_all(self, messages: Sequence[OutgoingMessage]) -> list[Outcome]:
        outcomes = await self._publisher.publish_all(messages)
        for outcome in outcomes:
            if isinstance(outcome, PublishRejected):
                # A sealed or wrongly configured stream: an operator mends it, no event is lost.
                raise Unavailable(str(outcome)) from outcome
        return outcomes


def _redelivered(message: Msg) -> bool:
    return message.metadata.num_delivered > 1
