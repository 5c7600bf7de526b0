"""Publishes the stored events of a batch, until JetStream has answered for each."""

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
    """The events of one batch on their way from PostgreSQL to JetStream."""

    def __init__(self, store: EventStore, publisher: Publisher, *, since: float) -> None:
        """Begin without any.

        Args:
            store: where they are.
            publisher: publishes them.
            since: seconds on the loop's clock, before they were stored.
        """
        self._store = store
        self._publisher = publisher
        self._looked_at = since
        self.events: list[IncomingEvent] = []
        self.messages: list[OutgoingMessage] = []
        self.gone: set[int] = set()
        """Places of those that are not published: their person was erased meanwhile."""

    def add(self, event: IncomingEvent, contact_key: str) -> None:
        """Have a stored event published."""
        self.events.append(event)
        self.messages.append(event_message(event, contact_key))

    async def publish(self, *, in_order: bool) -> list[PublishOutcome]:
        """Publish until JetStream has answered for each; of those that are gone it says nothing.

        Args:
            in_order: one of a person at a time. Of messages that are published at once JetStream
                may refuse an earlier and take a later one.
        """
        published: list[PublishOutcome] = [None] * len(self.messages)
        every = range(len(self.messages))
        persons = (order_key(event.user_id, event.email) for event in self.events)
        for wave in _waves(list(persons)) if in_order else [every]:
            # Its name is counted with each repetition.
            attempt = update_wrapper(partial(self._attempt, wave), self._attempt)
            outcomes, _ = await retry_until_available(attempt)
            for place, outcome in outcomes:
                published[place] = outcome
        return published

    async def _attempt(self, wave: Sequence[int]) -> list[tuple[int, PublishOutcome]]:
        await self._look(wave)
        places = [place for place in wave if place not in self.gone]
        outcomes = await self._publisher.publish_all([self.messages[place] for place in places])
        for outcome in outcomes:
            if isinstance(outcome, PublishRejected):
                # A sealed or wrongly configured stream: an operator mends it, no event is lost.
                raise Unavailable(str(outcome)) from outcome
        return list(zip(places, outcomes, strict=True))

    async def _look(self, wave: Sequence[int]) -> None:
        """Leave out whom an erasure has swept for while JetStream took nothing, or we froze."""
        now = asyncio.get_running_loop().time()
        gone = await self._store.gone([self.events[place] for place in wave], since=self._looked_at)
        self.gone.update(wave[place] for place in gone)
        self._looked_at = now


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
