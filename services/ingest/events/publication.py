"""Publishes the stored events of a batch until JetStream has accepted or refused each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial, update_wrapper

from hogsend.contract.errors import PublishRejected, Unavailable
from hogsend.contract.partitions import order_key
from hogsend.service.retry import retry_until_available
from hogsend.transport.pending_acks import Outcome as PublishOutcome
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.events.event_message import event_message
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import IncomingEvent


class Publication:
    """The stored events of one batch that are to be published."""

    def __init__(self, store: EventStore, publisher: Publisher, *, since: float) -> None:
        """Start without events; `add` adds them.

        Args:
            store: where the events are stored.
            publisher: publishes the events.
            since: seconds on the event loop's clock, before the events were stored.
        """
        self._store = store
        self._publisher = publisher
        self._checked_at = since
        self.events: list[IncomingEvent] = []
        self.messages: list[OutgoingMessage] = []
        self.erased: set[int] = set()
        """Indices of events that are not published: their person was erased meanwhile."""

    def add(self, event: IncomingEvent, contact_key: str) -> None:
        """Add a stored event."""
        self.events.append(event)
        self.messages.append(event_message(event, contact_key))

    async def publish(self, *, in_order: bool) -> list[PublishOutcome]:
        """Publish until JetStream has accepted or refused each event, except those of `erased`.

        Args:
            in_order: publish an event only after JetStream has accepted the previous event of the
                same person. Of messages that are published together, JetStream may refuse an
                earlier one and accept a later one.

        Returns:
            The outcome of each event in the order of `add`; None for those of `erased`.
        """
        published: list[PublishOutcome] = [None] * len(self.messages)
        every = range(len(self.messages))
        persons = (order_key(event.user_id, event.email) for event in self.events)
        for wave in _waves(list(persons)) if in_order else [every]:
            # Retries are counted by the function's name, which a `partial` lacks.
            attempt = update_wrapper(partial(self._attempt, wave), self._attempt)
            outcomes, _ = await retry_until_available(attempt)
            for index, outcome in outcomes:
                published[index] = outcome
        return published

    async def _attempt(self, wave: Sequence[int]) -> list[tuple[int, PublishOutcome]]:
        await self._find_erased(wave)
        indices = [index for index in wave if index not in self.erased]
        outcomes = await self._publisher.publish_all([self.messages[index] for index in indices])
        for outcome in outcomes:
            if isinstance(outcome, PublishRejected):
                # The stream is sealed or misconfigured. It is retried until an operator fixes it,
                # so that no event is lost.
                raise Unavailable(str(outcome)) from outcome
        return list(zip(indices, outcomes, strict=True))

    async def _find_erased(self, wave: Sequence[int]) -> None:
        """Find events whose person was erased while JetStream was unavailable or we were frozen.

        An erasure's sweeps may be over then, and nothing would delete the events from the stream.
        """
        now = asyncio.get_running_loop().time()
        events = [self.events[index] for index in wave]
        erased = await self._store.find_erased(events, since=self._checked_at)
        self.erased.update(wave[index] for index in erased)
        self._checked_at = now


def _waves(persons: Sequence[str]) -> list[list[int]]:
    """Split events into waves: the first event of every person, the second of every person, etc.

    Args:
        persons: the person of each event.

    Returns:
        The indices of the events in each wave.
    """
    waves: list[list[int]] = []
    seen: dict[str, int] = {}
    for index, person in enumerate(persons):
        number = seen[person] = seen.get(person, -1) + 1
        if number == len(waves):
            waves.append([])
        waves[number].append(index)
    return waves
