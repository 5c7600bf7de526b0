"""Processes a batch of queued messages: stores and publishes their events.

The order is the guarantee: commit, publish, acknowledge. If the process ends anywhere in between,
JetStream redelivers the messages. The unique key in PostgreSQL and JetStream's deduplication then
keep the row and the message on the bus from being repeated.
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
"""Decodes a message; returns None if there is nothing to store. Raises `Unprocessable`."""


MAX_DECODED_BYTES = 80 * 1024 * 1024
"""Memory that all messages that are decoded at the same time may take. A single message may take
more."""
SMALL_BATCH = 1024 * 1024
"""A batch of up to this many bytes is small: decoded, it takes little more than half of that memory
at most."""
MEMORY_FACTOR = 10
"""A small batch is assumed to take this many times its bytes; ordinary events take less."""


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
        """Store, publish and acknowledge the events of `messages`; dead-letter invalid messages.

        Args:
            messages: queued messages.
            decode: decodes a message.
            in_order: publish an event only after JetStream has acknowledged the previous event of
                the same person.
        """
        since = asyncio.get_running_loop().time()
        for part, size in _split_by_memory(messages):
            async with self._decoded.reserved(size):
                with metrics.measured(part):
                    await self._process(part, decode, in_order=in_order, since=since)

    async def _process(
        self, messages: Sequence[QueuedMessage], decode: Decode, *, in_order: bool, since: float
    ) -> None:
        decoded, failures = await self._decode_all(messages, decode)
        started_at = asyncio.get_running_loop().time()
        outcomes, attempts = await self._save([event for _, event in decoded])
        finished: list[QueuedMessage] = []
        unpublished: list[QueuedMessage] = []
        publication = Publication(self._store, self._publisher, since=started_at)
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
            # A stored event need not be published yet. Its process may have ended after the commit,
            # and this is the redelivery. Or an attempt of this call committed before it failed, and
            # the next attempt takes its own events for known.
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
        for index, refusal in enumerate(published):
            message = unpublished[index]
            if refusal is not None:
                why = Unprocessable(TOO_LARGE, f"stored, but not published: {refusal}")
                failures.append(Failure(message, why))
                continue
            finished.append(message)
            if index not in publication.erased:
                received_at = publication.events[index].received_at
                metrics.ANNOUNCED_SECONDS.observe(max((now - received_at).total_seconds(), 0))
        await self._publisher.acknowledge(finished)
        await dead_lettering.publish(self._dead_letters, failures, since=since)
        metrics.STORED.inc(stored)
        metrics.DUPLICATES.inc(duplicates)
        metrics.PUBLISHED.inc(published.count(None) - len(publication.erased))

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


def _split_by_memory(
    messages: Sequence[QueuedMessage],
) -> Iterator[tuple[Sequence[QueuedMessage], int]]:
    """Split a batch into parts that may be decoded as a whole, each with the memory it takes."""
    length = sum(len(message.data) for message in messages)
    if length <= SMALL_BATCH:
        # Nearly all batches are small. An exact estimate would cost a tenth of decoding.
        yield messages, MEMORY_FACTOR * length
        return
    start = total = 0
    for index, message in enumerate(messages):
        size = decoded_bytes(message.data)
        if total and total + size > MAX_DECODED_BYTES:
            yield messages[start:index], total
            start, total = index, 0
        total += size
    yield messages[start:], total
