"""From a batch of queued messages to stored and published events.

The order is the guarantee: commit, publish, acknowledge. If the process ends anywhere in between,
JetStream redelivers the message, and neither the row nor the message on the bus is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from hogsend.contract.errors import PublishRejected, Unavailable
from hogsend.contract.headers import TRACEPARENT
from hogsend.contract.json_memory import decoded_bytes
from hogsend.contract.partitions import whose
from hogsend.service import tracing
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.memory_budget import MemoryBudget
from hogsend.service.queued_message import QueuedMessage
from hogsend.service.retry import retry_until_available
from hogsend.transport import publisher as transport
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest import metrics
from services.ingest.dead_letters import publish as dead_lettering
from services.ingest.dead_letters.publish import TOO_LARGE, Failure
from services.ingest.events.event_message import event_message
from services.ingest.events.outcome import Outcome, Rejected, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import IncomingEvent

Decode = Callable[[QueuedMessage], IncomingEvent | None]
"""Decodes a message; None when there is nothing to store. Raises `Unprocessable`."""


MAX_DECODED_BYTES = 80 * 1024 * 1024
"""Memory that all messages take which are decoded at a time; a single one may take more."""
SMALL_BATCH = 1024 * 1024
"""Bytes up to which a batch is small: however it is made, it takes half of that memory at most."""
TIMES = 10
"""How much more than its text a small batch is taken for; ordinary events take less."""


class EventProcessor:
    """Processes batches; waits without limit until PostgreSQL and NATS are available."""

    def __init__(self, store: EventStore, publisher: Publisher, dead_letters: DeadLetters) -> None:
        self._store = store
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._decoded = MemoryBudget(MAX_DECODED_BYTES)

    async def process(
        self, messages: Sequence[QueuedMessage], decode: Decode, *, in_order: bool = False
    ) -> None:
        """Store, publish and acknowledge the events of `messages`; dead-letter the others.

        Args:
            messages: queued.
            decode: makes an event of each.
            in_order: publish an event only when JetStream has the one of the same person before it.
        """
        for part, size in _parts(messages):
            async with self._decoded.reserved(size):
                with metrics.measured(part):
                    await self._process(part, decode, in_order=in_order)

    async def _process(
        self, messages: Sequence[QueuedMessage], decode: Decode, *, in_order: bool
    ) -> None:
        decoded, failures = await self._decode_all(messages, decode)
        outcomes, attempts = await self._save([event for _, event in decoded])
        finished: list[QueuedMessage] = []
        unpublished: list[QueuedMessage] = []
        received: list[datetime] = []
        outgoing: list[OutgoingMessage] = []
        persons: list[str] = []
        stored = duplicates = 0
        for (message, event), outcome in zip(decoded, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                failures.append(Failure(message, outcome.why))
                continue
            if outcome.status is Status.ERASED:
                finished.append(message)
                continue
            if outcome.status is Status.STORED:
                stored += 1
            else:
                duplicates += 1
            # An event that is stored already need not be published already. Its process may have
            # ended after the commit, and this is the redelivery. Or an attempt of this call may
            # have committed before it failed, which makes its own events look known to the next.
            if (
                outcome.status is not Status.KNOWN
                or attempts > 1
                or message.metadata.num_delivered > 1
            ):
                unpublished.append(message)
                outgoing.append(event_message(event, outcome.contact_key))
                received.append(event.received_at)
                persons.append(whose(event.user_id, event.email) if in_order else "")
            else:
                finished.append(message)
        with tracing.stage("publish event", (one.headers.get(TRACEPARENT) for one in outgoing)):
            published = await self._publish_all(outgoing, persons if in_order else None)
        now = datetime.now(UTC)
        for message, since, refusal in zip(unpublished, received, published, strict=True):
            if refusal is None:
                finished.append(message)
                metrics.ANNOUNCED_SECONDS.observe(max((now - since).total_seconds(), 0))
            else:
                why = Unprocessable(TOO_LARGE, f"stored, but not published: {refusal}")
                failures.append(Failure(message, why))
        await self._publisher.acknowledge(finished)
        await dead_lettering.publish(self._dead_letters, failures)
        metrics.STORED.inc(stored)
        metrics.DUPLICATES.inc(duplicates)
        metrics.PUBLISHED.inc(published.count(None))

    async def _decode_all(
        self, messages: Sequence[QueuedMessage], decode: Decode
    ) -> tuple[list[tuple[QueuedMessage, IncomingEvent]], list[Failure]]:
        decoded: list[tuple[QueuedMessage, IncomingEvent]] = []
        failures: list[Failure] = []
        for message in messages:
            try:
                event = decode(message)
            except Unprocessable as why:
                failures.append(Failure(message, why))
                continue
            if event is None:
                await message.ack()
            else:
                decoded.append((message, event))
        return decoded, failures

    async def _save(self, events: Sequence[IncomingEvent]) -> tuple[list[Outcome], int]:
        if not events:
            return [], 1
        with tracing.stage("store event", (event.traceparent for event in events)):
            return await retry_until_available(lambda: self._store.save(events))

    async def _publish_all(
        self, messages: Sequence[OutgoingMessage], persons: Sequence[str] | None
    ) -> list[transport.Outcome]:
        """Publish until JetStream has answered for each; one a person at a time, if they are told.

        Of messages that are published at once JetStream may refuse an earlier and take a later one.
        """
        published: list[transport.Outcome] = [None] * len(messages)
        for wave in _waves(persons) if persons is not None else [range(len(messages))]:
            sent = [messages[index] for index in wave]
            outcomes, _ = await retry_until_available(partial(self._publish, sent))
            for index, outcome in zip(wave, outcomes, strict=True):
                published[index] = outcome
        return published

    async def _publish(self, messages: Sequence[OutgoingMessage]) -> list[transport.Outcome]:
        outcomes = await self._publisher.publish_all(messages)
        for outcome in outcomes:
            if isinstance(outcome, PublishRejected):
                # A sealed or wrongly configured stream: an operator mends it, no event is lost.
                raise Unavailable(str(outcome)) from outcome
        return outcomes


def _parts(
    messages: Sequence[QueuedMessage],
) -> Iterator[tuple[Sequence[QueuedMessage], int]]:
    """Split a batch so that each part may be decoded at once, and say how much it takes."""
    length = sum(len(message.data) for message in messages)
    if length <= SMALL_BATCH:
        # As nearly all are; counting their values costs a tenth of decoding them.
        yield messages, TIMES * length
        return
    begin = taken = 0
    for number, message in enumerate(messages):
        size = decoded_bytes(message.data)
        if taken and taken + size > MAX_DECODED_BYTES:
            yield messages[begin:number], taken
            begin, taken = number, 0
        taken += size
    yield messages[begin:], taken


def _waves(persons: Sequence[str]) -> list[list[int]]:
    """Indices of the first of every person, then of the second of every person, and so on."""
    waves: list[list[int]] = []
    seen: dict[str, int] = {}
    for index, person in enumerate(persons):
        number = seen[person] = seen.get(person, -1) + 1
        if number == len(waves):
            waves.append([])
        waves[number].append(index)
    return waves
