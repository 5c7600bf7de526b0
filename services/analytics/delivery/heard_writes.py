"""Hears of every write to a person as it is published, in every replica.

One replica sends them to PostHog, and any replica answers reads. So each listens beside the streams
and notes what the sources make of a message. The one that sends what services capture reads it from
its stream within a moment, and does not listen to it as well: that would cost a quarter of sending.
What was published while a replica did not listen is noted by the one that sends it, which is late,
and known to that one only.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
import structlog

from hogsend.contract import subjects
from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.persons import EVENT_CAPTURED, PERSON_SET
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.sources.source import Skipped, Source
from services.analytics.delivery.streams import DeliveryMessage, ReadableMessage
from services.analytics.persons.own_writes import NOTED_SECONDS, OwnWrites, changes_a_person
from services.analytics.project_key import Project

log = structlog.get_logger(__name__)

MISSED_MARGIN = timedelta(seconds=10)
"""How far the bus's clock may differ from ours."""
DESTINATIONS_SECONDS = 1.0
"""How long destinations are not read again."""
BEHIND_SECONDS = 0.5
"""Age of a captured event, when it is read from its stream, from which on it is listened for."""
READING_SECONDS = 0.5
"""How long a frozen PostgreSQL is waited for; reads of persons wait for it, too."""

PERSONS = f"{subjects.PERSONS}."

WRITES = (
    PERSON_SET.subject,
    EVENT_CAPTURED.subject,
    *(f"{subjects.ENGAGEMENT}.{one}" for one in ("contact.*", "journey.heldout", "bucket.*")),
)

_CHANGES = re.compile(rb'"\$(?:set|set_once|unset)"')
"""What is in every captured event that changes a person, and in few others."""
_TELLING = (PERSON_SET.subject, f"{subjects.ENGAGEMENT}.")
"""Subjects whose messages change persons without it."""


class InstanceProject(Protocol):
    """The project whose persons are read."""

    async def project(self) -> Project | None:
        """Give the project; None when there certainly is none.

        Raises:
            HogsendError: that cannot be found out now.
        """


class Captures(Protocol):
    """Listening to captured events, which can be left for a while."""

    @property
    def are_heard(self) -> bool:
        """Whether every captured event is heard."""

    async def listen_to_captures(self) -> None:
        """Hear captured events from now on."""

    async def leave_captures(self) -> None:
        """Hear them no longer."""

    async def last_captured(self) -> int | None:
        """Position of the last message in their stream; None when that cannot be found out."""


class Heard(msgspec.Struct, frozen=True):
    """A message as it was published."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    queued_at: datetime
    position: int = msgspec.field(default_factory=itertools.count(-1, -1).__next__)
    """Not the stream's, which is not known, nor like one: tells messages without an id apart."""


class Destinations:
    """Sources of all destinations: read again after a second, and kept while they cannot be."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[Source]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._known: Sequence[Source] = ()
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def current(self) -> Sequence[Source]:
        """Give a source for each destination; never raises, and never waits for long."""
        now = self._clock()
        is_old = self._read_at is None or now - self._read_at >= DESTINATIONS_SECONDS
        if is_old and (self._reading is None or self._reading.done()):
            self._read_at = now
            self._reading = asyncio.create_task(self._read_again())
        if self._reading is not None:
            # Not cancelled when it takes too long: asyncpg would wait for a frozen server again.
            await asyncio.wait({self._reading}, timeout=READING_SECONDS)
        return self._known

    async def _read_again(self) -> None:
        try:
            self._known = await self._read()
        except Unavailable as error:
            FAILURES.labels("destinations", error.code).inc()
            log.debug("destinations cannot be read now", reason=str(error))


class HeardWrites:
    """Notes what is written to persons of the instance's project."""

    def __init__(
        self,
        writes: OwnWrites,
        instance: InstanceProject,
        sources: Sequence[Source],
        destinations: Destinations,
    ) -> None:
        """Note what `sources` and `destinations` make of messages in `writes`."""
        self._writes = writes
        self._instance = instance
        self._sources = sources
        self._destinations = destinations
        self._captures: Captures | None = None
        self._read_up_to = 0
        self._latest_read = datetime.min.replace(tzinfo=UTC)
        self._has_read = asyncio.Event()
        self._listens_since = datetime.max.replace(tzinfo=UTC)

    @property
    def subjects(self) -> list[str]:
        """Where writes are published; NATS takes no wider patterns from this service."""
        mirrored = {
            source.subscription.subject
            for source in self._sources
            if source.subscription.stream == StreamName.EVENTS
        }
        return sorted({*WRITES, *mirrored})

    def listens(self) -> None:
        """Say that from now on every message is heard, and some before may have been missed."""
        self._listens_since = datetime.now(UTC)

    def captures_from(self, captures: Captures) -> None:
        """Listen to captured events through `captures`, while that is needed."""
        self._captures = captures
        self._writes.catch_up_by(self._catch_up)

    async def hear_captures(self) -> None:
        """Listen to captured events from now on, as their stream is not read up to its end here."""
        if self._captures is not None and not self._captures.are_heard:
            await self._captures.listen_to_captures()
            self.listens()

    async def hear(self, message: ReadableMessage) -> None:
        """Note what a message changes of a person, if anything."""
        if not may_change_a_person(message.subject, message.body):
            return
        with self._writes.being_noted():
            for source in await self._sources_of(message.subject):
                captured = _captured(source, message)
                if captured is None or not changes_a_person(captured):
                    continue
                if await self._is_ours(source):
                    self._writes.note(captured, message.queued_at)

    async def missed(self, messages: Sequence[DeliveryMessage], *, reads_on: bool = True) -> None:
        """Note what may have been published before this replica listened, and is sent only now.

        Args:
            messages: of one consumer.
            reads_on: False where the next ones may be read only when PostHog has taken some.
        """
        for message in messages:
            if message.queued_at - MISSED_MARGIN < self._listens_since or self._is_unheard(message):
                await self.hear(message)
        last = messages[-1]
        if not last.subject.startswith(PERSONS) or self._captures is None:
            return
        # One that is later, and before it, is of a stream that was made anew.
        if last.position > self._read_up_to or last.queued_at > self._latest_read:
            self._read_up_to = last.position
            self._latest_read = max(self._latest_read, last.queued_at)
        self._has_read.set()
        age = (datetime.now(UTC) - last.queued_at).total_seconds()
        if age > BEHIND_SECONDS or not reads_on:
            await self.hear_captures()
        elif last.subject == EVENT_CAPTURED.subject:
            await self._captures.leave_captures()

    async def _catch_up(self) -> None:
        """Wait until what was captured before is read from its stream, where it is not heard."""
        if self._captures is None or self._captures.are_heard:
            return
        try:
            async with asyncio.timeout(NOTED_SECONDS):
                read = self._read_up_to
                end = await self._captures.last_captured()
                if end is not None and end < read and read == self._read_up_to:
                    # The stream was made anew, and nothing of it was read yet.
                    self._read_up_to = 0
                while end is not None and self._read_up_to < end and not self._captures.are_heard:
                    self._has_read.clear()
                    await self._has_read.wait()
        except TimeoutError:
            FAILURES.labels("catching_up", "TimeoutError").inc()
            log.warning("a person is read although the latest captures are not known")
            # The reads after this one would wait in vain, too.
            await self.hear_captures()

    def _is_unheard(self, message: DeliveryMessage) -> bool:
        if self._captures is None or message.subject != EVENT_CAPTURED.subject:
            return False
        return not self._captures.are_heard

    async def _sources_of(self, subject: str) -> Sequence[Source]:
        about_persons = subject.removeprefix(f"{subjects.ENGAGEMENT}.")
        found = [one for one in self._sources if subjects.covers(one.subscription.subject, subject)]
        if about_persons != subject:
            found += await self._destinations.current()
        return found

    async def _is_ours(self, source: Source) -> bool:
        """Whether a source writes to the persons that are read, as far as can be told."""
        try:
            target = await source.project()
            instance = await self._instance.project()
        except Unprocessable:
            return False
        except HogsendError as error:
            # It is sent as soon as that is known.
            FAILURES.labels("project_key", error.code).inc()
            log.debug("it is not known whose persons are written", reason=str(error))
            return True
        return target is not None and instance is not None and target.key == instance.key


def may_change_a_person(subject: str, body: bytes) -> bool:
    """Whether a message has to be read to know what it changes; most captured events have not."""
    return subject.startswith(_TELLING) or _CHANGES.search(body) is not None


def _captured(source: Source, message: ReadableMessage) -> Captured | None:
    try:
        return source.read(message)
    except (Skipped, Unprocessable):
        # Who sends it says so.
        return None
