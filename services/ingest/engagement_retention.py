"""Deletes reports from ENGAGEMENT after ingest and every consumer of analytics acknowledged them.

JetStream's own retention by interest would lose reports: those that it accepts while a consumer is
missing never reach this consumer, though they were acknowledged to their publisher. So the stream
keeps everything, and ingest deletes only what it has acknowledged itself. Nothing is deleted while
a consumer of analytics is missing: one may be deleted by hand while analytics is down, see
`engagement_readers`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

import structlog
from nats.js.api import ConsumerInfo

from hogsend.contract.errors import HogsendError
from hogsend.contract.streams import ENGAGEMENT_CONSUMER, StreamName
from hogsend.service import metrics
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.own_consumer import list_consumers

log = structlog.get_logger(__name__)

TRIM_PAUSE_SECONDS = 0.5
"""Pause between two attempts."""
MIN_AGE_SECONDS = 10.0
"""A report stays in the stream at least this long.

In a cluster the leader of a consumer may lag behind the leader of the stream. It reports then that
nothing is pending, because it does not know the newest messages yet.
"""


class Readers(Protocol):
    """Knows the consumers of the stream besides ingest's own."""

    async def missing(self, present: Collection[str]) -> set[str]:
        """Return the consumers that do not exist now, but will be created again.

        Raises:
            Unavailable: this cannot be found out now.
        """


class EngagementRetention:
    """Trims the stream. Every replica does so; they need no coordination."""

    def __init__(self, link: Connection, readers: Readers) -> None:
        """Trim over `link`, unless the consumer of one of `readers` is missing."""
        self._link = link
        self._readers = readers
        self._logged_reason = ""
        """The reason why the stream is not trimmed that was logged last."""
        self._ends: deque[tuple[float, int]] = deque()
        """Times less than `MIN_AGE_SECONDS` ago, each with the stream's last sequence then."""
        self._old_end = 0
        """The stream's last sequence `MIN_AGE_SECONDS` ago."""

    async def keep_trimmed(self) -> None:
        """Trim regularly; never ends."""
        while True:
            await asyncio.sleep(TRIM_PAUSE_SECONDS)
            if not self._link.connected:
                continue
            try:
                await self.trim()
            except (HogsendError, *UNREACHABLE) as error:
                metrics.FAILURES.labels("trim", type(error).__name__).inc()
                self._log_once(str(error))

    async def trim(self) -> None:
        """Delete what every consumer has acknowledged; nothing while a consumer is missing.

        Raises:
            nats.errors.Error: NATS or JetStream is unavailable.
            HogsendError: PostgreSQL is unavailable, or analytics does not reply whether it still
                uses a consumer that is missing.
        """
        js = self._link.js
        stream = await js.stream_info(StreamName.ENGAGEMENT)
        # Read before the consumers: they may not know of reports that arrive in between.
        end = self._stable_end(stream.state.last_seq)
        if not stream.state.messages:
            return
        consumers = await list_consumers(js, StreamName.ENGAGEMENT)
        own = [one for one in consumers if one.name == ENGAGEMENT_CONSUMER.durable_name]
        if not own or await self._is_reader_missing(consumers):
            return
        done = min(end, _floor(own[0]), *(_handled_up_to(one, end) for one in consumers))
        if done >= stream.state.first_seq:
            await js.purge_stream(StreamName.ENGAGEMENT, seq=done + 1)

    async def _is_reader_missing(self, consumers: Sequence[ConsumerInfo]) -> bool:
        # A consumer that is not durable belongs to a temporary reader, and is not created again.
        durables = {one.name for one in consumers if one.config.durable_name}
        missing = await self._readers.missing(durables - {str(ENGAGEMENT_CONSUMER.durable_name)})
        waits_for = ", ".join(sorted(missing))
        self._log_once(f"consumers are missing: {waits_for}" if missing else "")
        return bool(missing)

    def _log_once(self, reason: str) -> None:
        # Each reason is logged once: PostgreSQL or analytics may be down for hours, with two
        # attempts a second.
        if reason and reason != self._logged_reason:
            log.warning("old engagement was not deleted", reason=reason)
        self._logged_reason = reason

    def _stable_end(self, last: int) -> int:
        now = asyncio.get_running_loop().time()
        if self._ends and last < self._ends[-1][1]:
            # The stream was deleted and created again, and counts from 1.
            self._ends.clear()
            self._old_end = 0
        self._ends.append((now, last))
        while self._ends and self._ends[0][0] <= now - MIN_AGE_SECONDS:
            _, self._old_end = self._ends.popleft()
        return self._old_end


def _handled_up_to(consumer: ConsumerInfo, end: int) -> int:
    """The sequence up to which a consumer needs no message."""
    if not consumer.num_pending and not consumer.num_ack_pending:
        # The ack floor does not rise while no message matches the consumer's filter.
        return end
    return _floor(consumer)


def _floor(consumer: ConsumerInfo) -> int:
    return consumer.ack_floor.stream_seq if consumer.ack_floor else 0
