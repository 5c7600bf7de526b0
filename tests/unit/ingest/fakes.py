"""Fakes of a queue, of PostgreSQL's events and of JetStream, in memory, for ingest's domain.

The fakes of one test write to one journal, so that the test can check the order of their actions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.contract.events import Event
from hogsend.contract.headers import MESSAGE_ID
from hogsend.transport.hpub import Acknowledgeable
from hogsend.transport.pending_acks import Outcome
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.erasure.freshness import is_stale
from services.ingest.events import outcome
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventKey, EventRef, IncomingEvent

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Journal = list[str]
_sequences = itertools.count(1)
_DIGEST = re.compile(r"^[0-9a-f]{32}:")


@dataclass
class StreamSequence:
    stream: int


@dataclass
class Delivery:
    stream: str = "WEBHOOKS"
    sequence: StreamSequence = field(default_factory=lambda: StreamSequence(next(_sequences)))
    num_delivered: int = 1
    num_pending: int = 0
    timestamp: datetime = NOW


@dataclass
class FakeMessage:
    """A message of a stream; the journal names it by its `name`."""

    data: bytes = b""
    subject: str = "hogsend.webhooks.posthog"
    headers: dict[str, str] | None = None
    metadata: Delivery = field(default_factory=Delivery)
    name: str = "message"
    reply: str = ""
    journal: Journal = field(default_factory=list)
    delays: list[float | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        delivery = self.metadata
        nanoseconds = int(delivery.timestamp.timestamp()) * 1_000_000_000
        numbers = (delivery.num_delivered, delivery.sequence.stream, 1, nanoseconds)
        position = ".".join(map(str, (*numbers, delivery.num_pending)))
        self.reply = self.reply or f"$JS.ACK.{delivery.stream}.ingest.{position}"

    async def ack(self) -> None:
        self.journal.append(f"ack {self.name}")

    async def nak(self, delay: float | None = None) -> None:
        self.delays.append(delay)
        self.journal.append(f"nak {self.name}")


def incoming(id: str = "u-1", name: str = "signed_up", user_id: str = "anna") -> IncomingEvent:
    return IncomingEvent(
        ref=EventRef("posthog", id),
        name=name,
        user_id=user_id,
        email=None,
        occurred_at=NOW,
        received_at=NOW,
        properties={},
        person_properties={},
    )


class FakeStore(EventStore):
    """Commits to memory. Each call raises one of `errors`, after the commit if `commits_first`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.outcomes: dict[str, outcome.Outcome] = {}
        """Outcomes by event id, instead of `STORED` or `KNOWN`."""
        self.errors: list[Exception] = []
        self.commits_first = False
        self._stored: set[EventKey] = set()
        self.erased_since: set[str] = set()
        """Ids of events whose person is erased once they are stored."""

    async def save(self, events: Sequence[IncomingEvent]) -> list[outcome.Outcome]:
        if self.errors and not self.commits_first:
            raise self.errors.pop(0)
        outcomes = [self._save(event) for event in events]
        self._journal.append("commit " + " ".join(event.ref.id for event in events))
        if self.errors:
            raise self.errors.pop(0)
        return outcomes

    async def find_erased(self, events: Sequence[IncomingEvent], *, since: float) -> set[int]:
        if not is_stale(since):
            return set()
        return {index for index, event in enumerate(events) if event.ref.id in self.erased_since}

    def _save(self, event: IncomingEvent) -> outcome.Outcome:
        status = Status.KNOWN if event.key in self._stored else Status.STORED
        self._stored.add(event.key)
        return self.outcomes.get(event.ref.id, Saved(status, event.user_id))


class FakePublisher(Publisher):
    """Publishes to memory, and drops a message whose id was published before, as JetStream does."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.published: dict[tuple[str, str], OutgoingMessage] = {}
        """Messages by stream and message id, as JetStream deduplicates."""
        self.errors: list[Exception] = []
        """Each call raises one of them."""
        self.refusals: dict[str, list[TooLarge | PublishRejected | Unavailable]] = {}
        """Refusals by message id without its digest: one for each attempt, until none remains."""

    async def publish(self, message: OutgoingMessage, **_within: float) -> None:
        (outcome,) = await self.publish_all([message])
        if outcome is not None:
            raise outcome

    async def publish_all(
        self, messages: Sequence[OutgoingMessage], **_within: float
    ) -> list[Outcome]:
        if self.errors:
            raise self.errors.pop(0)
        outcomes = [self._publish(message) for message in messages]
        for error in outcomes:
            if isinstance(error, Unavailable):
                raise error
        return outcomes

    async def acknowledge(self, messages: Sequence[Acknowledgeable]) -> None:
        for message in messages:
            await message.ack()

    def events(self) -> list[Event]:
        return [
            msgspec.json.decode(message.body, type=Event)
            for message in self.published.values()
            if message.subject.startswith("hogsend.events.")
        ]

    def dead_letters(self) -> list[DeadLetter]:
        return [
            msgspec.json.decode(message.body, type=DeadLetter)
            for message in self.published.values()
            if message.subject.startswith("hogsend.deadletter.")
        ]

    def _publish(self, message: OutgoingMessage) -> Outcome:
        id = message.headers[MESSAGE_ID]
        name = _DIGEST.sub("", id)
        if refusals := self.refusals.get(name):
            return refusals.pop(0)
        self._journal.append(f"publish {name}")
        stream = message.subject.split(".")[1]
        self.published.setdefault((stream, id), message)
        return None
