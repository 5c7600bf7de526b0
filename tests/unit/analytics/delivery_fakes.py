"""Dependencies of delivery in memory: a stream, PostHog's capture API, dead letters, a history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured, CaptureError
from hogsend.service.dead_letters import Unprocessable
from services.analytics.delivery.destination_cache import DestinationCache
from services.analytics.delivery.ordered_queue import Place
from services.analytics.delivery.sources.source import Skipped, Source
from services.analytics.delivery.streams import ReadableMessage, Subscription
from services.analytics.delivery.write_recorder import WriteRecorder
from services.analytics.destinations.store import Outcome
from services.analytics.persons.own_writes import OwnWrites
from services.analytics.project_key import Project, ProjectKey
from tests import virtual_time


async def no_destinations() -> Sequence[Source]:
    """Read destinations when there are none."""
    return ()


def write_recorder(project_key: ProjectKey) -> WriteRecorder:
    """Create a recorder whose writes are not read."""
    return WriteRecorder(OwnWrites(), project_key, (), DestinationCache(no_destinations))


class FakeCaptureSubscription:
    """The subscription to captured events, which a test can inspect."""

    def __init__(self) -> None:
        self.receives_captures = True
        self.last: int | None = 0

    async def subscribe_to_captures(self) -> None:
        self.receives_captures = True

    async def unsubscribe_from_captures(self) -> None:
        self.receives_captures = False

    async def last_capture_position(self) -> int | None:
        return self.last


QUEUED_AT = datetime(2026, 6, 13, 4, 0, tzinfo=UTC)
PROJECT = Project("phc_test", "https://posthog.test")


@dataclass(frozen=True)
class Fact:
    """An entry of a journal, which tests compare to check the order of operations."""

    what: str
    position: int = 0


@dataclass(frozen=True)
class DeadLetter:
    """A published dead letter."""

    position: int
    reason: str
    detail: str
    attempts: int
    headers: Mapping[str, str]


@dataclass
class FakeStream:
    """Records what happens to the messages of a stream."""

    journal: list[Fact] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    takes_dead_letters: bool = True


@dataclass
class FakeMessage:
    """A message that records acknowledgements and dead letters in its stream."""

    position: int
    subject: str = "hogsend.test.event"
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    deliveries: int = 1
    stream: FakeStream = field(default_factory=FakeStream)
    broken: bool = False
    """Whether acknowledging fails, as while the broker is not connected."""
    durable: str = "test"
    queued_at: datetime = QUEUED_AT
    pending: int = 0
    acks: int = 0
    naks: list[float] = field(default_factory=list)
    """Delay of each nak, in seconds."""

    async def ack(self) -> None:
        if self.broken:
            raise Unavailable("the broker is not connected")
        self.acks += 1
        self.stream.journal.append(Fact("ack", self.position))

    async def nak(self, seconds: float) -> None:
        if self.broken:
            raise Unavailable("the broker is not connected")
        self.naks.append(seconds)

    async def publish_dead_letter(
        self, why: Unprocessable, *, attempts: int, headers: Mapping[str, str]
    ) -> None:
        if not self.stream.takes_dead_letters:
            raise Unavailable("the stream of dead letters is full")
        letter = DeadLetter(self.position, why.reason, str(why), attempts, headers)
        self.stream.dead_letters.append(letter)


def event(position: int, person: str, name: str = "e", **more: Any) -> FakeMessage:
    """A message that `FakeSource` captures as an event of `person`."""
    body = msgspec.json.encode({"person": person, "name": name})
    return FakeMessage(position, body=body, **more)


@dataclass
class FakeConsumer:
    """A durable consumer; tests pass its messages to the sender themselves."""

    unacknowledged: int = 0
    """Number of messages that the previous leader left unacknowledged."""
    refusals: int = 0
    """How many of the next calls of `create` fail."""
    runs: bool = False
    journal: list[Fact] = field(default_factory=list)
    failure: asyncio.Event = field(default_factory=asyncio.Event)
    """An unexpected error that `run` raises once."""
    erased: set[int] = field(default_factory=set)
    """Positions of messages that were deleted from the stream."""
    reports_erased: bool = True
    """Whether `find_deleted` works."""

    async def create(self) -> int:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("there is no such stream")
        return self.unacknowledged

    async def find_deleted(self, places: Collection[Place]) -> Collection[Place]:
        if not self.reports_erased:
            raise Unavailable("the broker is not connected")
        return [place for place in places if place[0] in self.erased]

    async def run(self) -> None:
        self.runs = True
        try:
            await self.failure.wait()
            self.failure.clear()
            raise ValueError("a defect")
        finally:
            self.runs = False
            self.journal.append(Fact("nak'ed"))


@dataclass
class FakeStreams:
    """A broker with durable consumers."""

    existing: set[tuple[StreamName, str]] = field(default_factory=set)
    ready: bool = True
    consumers: dict[str, FakeConsumer] = field(default_factory=dict)
    broken: bool = False
    saves: int = 0
    """How often positions were saved."""

    def consumer(self, subscription: Subscription) -> FakeConsumer:
        self._check()
        self.existing.add((subscription.stream, subscription.durable))
        return self.consumers.setdefault(subscription.durable, FakeConsumer())

    async def durables(self, stream: StreamName) -> Collection[str]:
        self._check()
        return [durable for on, durable in sorted(self.existing) if on == stream]

    async def delete_consumer(self, stream: StreamName, durable: str) -> None:
        self._check()
        self.existing.discard((stream, durable))

    async def save_positions(self) -> None:
        self._check()
        self.saves += 1

    def _check(self) -> None:
        if self.broken:
            raise Unavailable("the broker is not connected")


Judge = Callable[[list[str]], CaptureError | None]


@dataclass
class FakeCapture:
    """PostHog's capture API: accepts every batch for which `judge` returns no error."""

    judge: Judge = lambda _names: None
    attempts: list[list[str]] = field(default_factory=list)
    """Names of the events of every request."""
    times: list[float] = field(default_factory=list)
    """When each request arrived."""
    accepted: list[tuple[str, str]] = field(default_factory=list)
    """Person and name of every accepted event, including duplicates."""
    projects: list[tuple[str, str]] = field(default_factory=list)
    """Host and key of every request."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is cleared, no request is answered."""

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(self, host: str, key: str, events: Sequence[bytes]) -> int:
        captured = [msgspec.json.decode(body, type=Captured) for body in events]
        names = [event.event for event in captured]
        self.attempts.append(names)
        self.times.append(virtual_time.now())
        self.projects.append((host, key))
        await self.gate.wait()
        error = self.judge(names)
        if error is not None:
            raise error
        self.accepted += [(event.distinct_id, event.event) for event in captured]
        return 200

    def of(self, person: str) -> list[str]:
        """Names of the accepted events of one person, in order."""
        return [name for distinct_id, name in self.accepted if distinct_id == person]


class FakeSource(Source):
    """Captures the messages that `event` makes, and writes a history."""

    name = "test"
    has_history = True
    subscription = Subscription(stream=StreamName.PERSONS, subject="hogsend.test.*", durable="test")

    def __init__(self, journal: list[Fact]) -> None:
        self.journal = journal
        self.history: list[Outcome] = []
        self.project_result: Project | HogsendError | Unprocessable | None = PROJECT
        """The result of `project`, or the error that it raises."""
        self.history_fails: Exception | None = None
        self.history_hangs = False
        self.only: set[str] | None = None
        """Names of the events to send; None for all."""
        self.renamed: dict[str, str] = {}
        """Names under which events are captured, by the names in the messages."""
        self.stored: tuple[int, set[str] | None] = (0, None)
        """The stored configuration: a revision, and `only`."""
        self._revision = 0
        self.refresh_failures = 0
        """How many of the next calls of `refresh` fail."""

    @property
    def revision(self) -> object:
        return self._revision

    async def refresh(self) -> None:
        if self.refresh_failures:
            self.refresh_failures -= 1
            raise Unavailable("PostgreSQL is not available")
        self._revision, self.only = self.stored

    def read(self, message: ReadableMessage) -> Captured | None:
        event = msgspec.json.decode(message.body, type=dict[str, str])
        if "person" not in event:
            return None
        if self.only is not None and event["name"] not in self.only:
            return None
        name = self.renamed.get(event["name"], event["name"])
        match name:
            case "malformed":
                raise Unprocessable("malformed", "not an event")
            case "skipped":
                raise Skipped
        return Captured(
            uuid=UUID(int=message.position),
            event=name,
            distinct_id=event["person"],
            timestamp=message.queued_at,
            properties={},
        )

    async def project(self) -> Project | None:
        if isinstance(self.project_result, Exception):
            raise self.project_result
        return self.project_result

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        if self.history_hangs:
            await asyncio.Event().wait()
        if self.history_fails is not None:
            raise self.history_fails
        self.history += outcomes
        self.journal.append(Fact("record"))

    def statuses(self) -> list[tuple[str, str, int]]:
        """Event id, status and attempts of the whole history."""
        return [(outcome.event_id, outcome.status, outcome.attempts) for outcome in self.history]
