"""From a batch of queued messages to stored and published events.

The order is the guarantee: commit, publish, acknowledge. If the process ends anywhere in between,
JetStream redelivers the message, and neither the row nor the message on the bus is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from hogsend.contract.headers import TRACEPARENT
from hogsend.contract.json_memory import decoded_bytes
from hogsend.service import tracing
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.memory_budget import MemoryBudget
from hogsend.service.queued_message import QueuedMessage
from hogsend.service.retry import retry_until_available
from hogsend.transport.publisher import Publisher
from services.ingest import metrics
from services.ingest.dead_letters import publish as dead_lettering
from services.ingest.dead_letters.publish import TOO_LARGE, Failure
from services.ingest.events.outcome import Outcome, Rejected, Status
from services.ingest.events.publication import Publication
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
        since = asyncio.get_running_loop().time()
        for part, size in _parts(messages):
            async with self._decoded.reserved(size):
                with metrics.measured(part):
                    await self._process(part, decode, in_order=in_order, since=since)

    async def _process(
        self, messages: Sequence[QueuedMessage], decode: Decode, *, in_order: bool, since: float
    ) -> None:
        decoded, failures = await self._decode_all(messages, decode)
        began_at = asyncio.get_running_loop().time()
        outcomes, attempts = await self._save([event for _, event in decoded])
        finished: list[QueuedMessage] = []
        unpublished: list[QueuedMessage] = []
        publication = Publication(self._store, self._publisher, since=began_at)
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
                publication.add(event, outcome.contact_key)
            else:
                finished.append(message)
        traced = (one.headers.get(TRACEPARENT) for one in publication.messages)
        with tracing.stage("publish event", traced):
            published = await publication.publish(in_order=in_order)
        now = datetime.now(UTC)
        for place, refusal in enumerate(published):
            message = unpublished[place]
            if refusal is not None:
                why = Unprocessable(TOO_LARGE, f"stored, but not published: {refusal}")
                failures.append(Failure(message, why))
                continue
            finished.append(message)
            if place not in publication.gone:
                received_at = publication.events[place].received_at
                metrics.ANNOUNCED_SECONDS.observe(max((now - received_at).total_seconds(), 0))
        await self._publisher.acknowledge(finished)
        await dead_lettering.publish(self._dead_letters, failures, since=since)
        metrics.STORED.inc(stored)
        metrics.DUPLICATES.inc(duplicates)
        metrics.PUBLISHED.inc(published.count(None) - len(publication.gone))

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
