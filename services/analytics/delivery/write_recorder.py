"""Records writes to persons when they are published, in every replica.

One replica sends the writes to PostHog, but every replica answers reads, and a read must include a
write that PostHog does not show yet. So each replica subscribes to the subjects of the writes,
maps each message with the same sources that the sender uses, and records the result in `OwnWrites`.

The sending replica reads captured events (`hogsend.persons.capture`) from their stream within
milliseconds. It does not subscribe to them as well: that would cost a quarter of its throughput.

Core NATS does not redeliver. A write that was published while a replica was not subscribed is
recorded only by the sending replica, when it sends the write.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
import structlog

from hogsend.contract import subjects
from hogsend.contract.errors import HogsendError
from hogsend.contract.persons import EVENT_CAPTURED, PERSON_SET
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.destination_cache import DestinationCache
from services.analytics.delivery.sources.source import Skipped, Source
from services.analytics.delivery.streams import DeliveryMessage, ReadableMessage
from services.analytics.persons.own_writes import RECORDING_SECONDS, OwnWrites, changes_a_person
from services.analytics.project_key import Project

log = structlog.get_logger(__name__)

CLOCK_SKEW = timedelta(seconds=10)
"""Largest difference expected between the clock of NATS and the clock of this process."""
LAG_SECONDS = 0.5
"""When a captured event is older than this as it is read from its stream, the stream is too far
behind for reads, and this replica subscribes to captured events."""

PERSONS = f"{subjects.PERSONS}."

WRITES = (
    PERSON_SET.subject,
    EVENT_CAPTURED.subject,
    *(f"{subjects.ENGAGEMENT}.{type}" for type in ("contact.*", "journey.heldout", "bucket.*")),
)

_PERSON_OPERATIONS = re.compile(rb'"\$(?:set|set_once|unset)"')
"""Matches every captured event that changes a person, and few others."""
_PERSON_SUBJECTS = (PERSON_SET.subject, f"{subjects.ENGAGEMENT}.")
"""Messages with these subject prefixes may change a person without `_PERSON_OPERATIONS`."""


class InstanceProject(Protocol):
    """The project whose persons are read."""

    async def project(self) -> Project | None:
        """Return the project; None when none is configured or connected.

        Raises:
            HogsendError: the project cannot be determined now.
        """


class CaptureSubscription(Protocol):
    """The subscription to captured events, which can be ended and started again."""

    @property
    def receives_captures(self) -> bool:
        """Whether this replica is subscribed to captured events."""

    async def subscribe_to_captures(self) -> None:
        """Receive captured events from now on; no effect while subscribed."""

    async def unsubscribe_from_captures(self) -> None:
        """Receive no more captured events."""

    async def last_capture_position(self) -> int | None:
        """Sequence of the last message in the stream of captured events; None when unknown."""


class PublishedMessage(msgspec.Struct, frozen=True):
    """A message that was received from its subject, not from its stream."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    queued_at: datetime
    position: int = msgspec.field(default_factory=itertools.count(-1, -1).__next__)
    """A unique negative number. The stream sequence is unknown here; sources need some number to
    distinguish messages without an id, and a negative one cannot equal a stream sequence."""


class WriteRecorder:
    """Records writes to persons of the instance's project in `OwnWrites`."""

    def __init__(
        self,
        writes: OwnWrites,
        instance: InstanceProject,
        sources: Sequence[Source],
        destinations: DestinationCache,
    ) -> None:
        """Record in `writes` the changes that `sources` and `destinations` map messages to."""
        self._writes = writes
        self._instance = instance
        self._sources = sources
        self._destinations = destinations
        self._captures: CaptureSubscription | None = None
        self._read_up_to = 0
        """Sequence up to which the stream of captured events was read here."""
        self._latest_read = datetime.min.replace(tzinfo=UTC)
        self._has_read = asyncio.Event()
        self._subscribed_at = datetime.max.replace(tzinfo=UTC)

    @property
    def subjects(self) -> list[str]:
        """Subjects of the writes. NATS permits this service no wider patterns."""
        mirrored = {
            source.subscription.subject
            for source in self._sources
            if source.subscription.stream == StreamName.EVENTS
        }
        return sorted({*WRITES, *mirrored})

    def mark_subscribed(self) -> None:
        """Note that every message from now on is received, and earlier ones may be missing."""
        self._subscribed_at = datetime.now(UTC)

    def use_captures(self, captures: CaptureSubscription) -> None:
        """Subscribe to captured events through `captures` while their stream lags."""
        self._captures = captures
        self._writes.wait_before_reads(self._catch_up)

    async def subscribe_to_captures(self) -> None:
        """Receive captured events: this replica does not read their stream up to its end."""
        if self._captures is not None and not self._captures.receives_captures:
            await self._captures.subscribe_to_captures()
            self.mark_subscribed()

    async def record(self, message: ReadableMessage) -> None:
        """Record the changes to a person that a message makes, if any."""
        if not may_change_a_person(message.subject, message.body):
            return
        with self._writes.recording():
            for source in await self._sources_of(message.subject):
                captured = _captured(source, message)
                if captured is None or not changes_a_person(captured):
                    continue
                if await self._writes_to_instance(source):
                    self._writes.record(captured, message.queued_at)

    async def record_missed(
        self, messages: Sequence[DeliveryMessage], *, can_pull_more: bool = True
    ) -> None:
        """Record messages that this replica is about to send and may not have received before.

        Args:
            messages: messages of one consumer.
            can_pull_more: False when more messages can be pulled only after PostHog took some.
        """
        for message in messages:
            is_missed = message.queued_at - CLOCK_SKEW < self._subscribed_at
            if is_missed or self._is_unsubscribed_capture(message):
                await self.record(message)
        last = messages[-1]
        if not last.subject.startswith(PERSONS) or self._captures is None:
            return
        # A lower sequence with a later time is from a stream that was created again.
        if last.position > self._read_up_to or last.queued_at > self._latest_read:
            self._read_up_to = last.position
            self._latest_read = max(self._latest_read, last.queued_at)
        self._has_read.set()
        age = (datetime.now(UTC) - last.queued_at).total_seconds()
        if age > LAG_SECONDS or not can_pull_more:
            await self.subscribe_to_captures()
        elif last.subject == EVENT_CAPTURED.subject:
            await self._captures.unsubscribe_from_captures()

    async def _catch_up(self) -> None:
        """Wait until the stream of captured events is read to its current end.

        Returns at once while this replica is subscribed to captured events.
        """
        if self._captures is None or self._captures.receives_captures:
            return
        try:
            async with asyncio.timeout(RECORDING_SECONDS):
                read_up_to = self._read_up_to
                end = await self._captures.last_capture_position()
                if end is not None and end < read_up_to and read_up_to == self._read_up_to:
                    # The stream was created again, and none of it has been read yet.
                    self._read_up_to = 0
                while (
                    end is not None
                    and self._read_up_to < end
                    and not self._captures.receives_captures
                ):
                    self._has_read.clear()
                    await self._has_read.wait()
        except TimeoutError:
            FAILURES.labels("catching_up", "TimeoutError").inc()
            log.warning("a person is read although the latest captures are not known")
            # Otherwise each of the following reads would run into the same timeout.
            await self.subscribe_to_captures()

    def _is_unsubscribed_capture(self, message: DeliveryMessage) -> bool:
        if self._captures is None or message.subject != EVENT_CAPTURED.subject:
            return False
        return not self._captures.receives_captures

    async def _sources_of(self, subject: str) -> Sequence[Source]:
        sources = [
            source
            for source in self._sources
            if subjects.covers(source.subscription.subject, subject)
        ]
        if subject.startswith(f"{subjects.ENGAGEMENT}."):
            sources += await self._destinations.current()
        return sources

    async def _writes_to_instance(self, source: Source) -> bool:
        """Whether a source writes to the project whose persons are read; True when unknown."""
        try:
            target = await source.project()
            instance = await self._instance.project()
        except Unprocessable:
            return False
        except HogsendError as error:
            # The message is sent as soon as the project is known.
            FAILURES.labels("project_key", error.code).inc()
            log.debug("it is not known whose persons are written", reason=str(error))
            return True
        return target is not None and instance is not None and target.key == instance.key


def may_change_a_person(subject: str, body: bytes) -> bool:
    """Whether a message may change a person. Most captured events do not, and are not decoded."""
    return subject.startswith(_PERSON_SUBJECTS) or _PERSON_OPERATIONS.search(body) is not None


def _captured(source: Source, message: ReadableMessage) -> Captured | None:
    try:
        return source.read(message)
    except (Skipped, Unprocessable):
        # The sender of the source reports this.
        return None
