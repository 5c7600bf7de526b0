"""Deletes reports from ENGAGEMENT once they are recorded and every destination is done with them.

JetStream's own retention by interest does the same, but forgets at once what it accepts while a
consumer is missing: a report would be acknowledged to its publisher and lost. So the stream keeps
everything, and only what ingest has acknowledged is ever deleted. So it is with the consumers of
analytics, of which one may be deleted by hand while analytics is down (`engagement_readers`).
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

TRIM_SECONDS = 0.5
KEPT_SECONDS = 10.0
"""How long a report stays at least.

The leader of a consumer may be behind the stream's in a cluster, and says then that it is done with
everything it knows of.
"""


class Readers(Protocol):
    """Know who reads the stream beside ingest."""

    async def missing(self, present: Collection[str]) -> set[str]:
        """Readers without a consumer, which will be back.

        Raises:
            Unavailable: that cannot be found out now.
        """


class EngagementRetention:
    """Trims the stream; every replica does, and each may."""

    def __init__(self, link: Connection, readers: Readers) -> None:
        """Trim over `link`, unless one of `readers` is missing."""
        self._link = link
        self._readers = readers
        self._told = ""
        """Why it is not trimmed, as the log has it already."""
        self._ends: deque[tuple[float, int]] = deque()
        """The stream's last sequence at moments that are not old enough yet."""
        self._old_end = 0
        """Its last sequence at the latest moment that is."""

    async def keep_trimmed(self) -> None:
        """Trim again and again; never ends."""
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            if not self._link.connected:
                continue
            try:
                await self.trim()
            except (HogsendError, *UNREACHABLE) as error:
                metrics.FAILURES.labels("trim", type(error).__name__).inc()
                self._tell(str(error))

    async def trim(self) -> None:
        """Delete what every reader is done with; nothing while the consumer of one is missing.

        Raises:
            nats.errors.Error: NATS or JetStream cannot be reached.
            HogsendError: PostgreSQL cannot be used, or analytics does not say whether a consumer
                that is missing is still wanted.
        """
        js = self._link.js
        stream = await js.stream_info(StreamName.ENGAGEMENT)
        # Before consumers are asked: what is reported meanwhile they may not know of.
        end = self._known_to_all(stream.state.last_seq)
        if not stream.state.messages:
            return
        consumers = await list_consumers(js, StreamName.ENGAGEMENT)
        recorded = [one for one in consumers if one.name == ENGAGEMENT_CONSUMER.durable_name]
        if not recorded or await self._waits(consumers):
            return
        done = min(end, _floor(recorded[0]), *(_done_with(one, end) for one in consumers))
        if done >= stream.state.first_seq:
            await js.purge_stream(StreamName.ENGAGEMENT, seq=done + 1)

    async def _waits(self, consumers: Sequence[ConsumerInfo]) -> bool:
        # A consumer that is not durable is a temporary reader's, and is not made again.
        durables = {one.name for one in consumers if one.config.durable_name}
        missing = await self._readers.missing(durables - {str(ENGAGEMENT_CONSUMER.durable_name)})
        waits_for = ", ".join(sorted(missing))
        self._tell(f"consumers are missing: {waits_for}" if missing else "")
        return bool(missing)

    def _tell(self, reason: str) -> None:
        # Once: it is tried twice a second, and PostgreSQL or analytics may be down for hours.
        if reason and reason != self._told:
            log.warning("old engagement was not deleted", reason=reason)
        self._told = reason

    def _known_to_all(self, last: int) -> int:
        now = asyncio.get_running_loop().time()
        if self._ends and last < self._ends[-1][1]:
            # The stream was made anew, and begins again.
            self._ends.clear()
            self._old_end = 0
        self._ends.append((now, last))
        while self._ends and self._ends[0][0] <= now - KEPT_SECONDS:
            _, self._old_end = self._ends.popleft()
        return self._old_end


def _done_with(consumer: ConsumerInfo, end: int) -> int:
    """Sequence up to which a consumer needs nothing any more."""
    if not consumer.num_pending and not consumer.num_ack_pending:
        # Its floor stays behind while nothing matches its filter.
        return end
    return _floor(consumer)


def _floor(consumer: ConsumerInfo) -> int:
    return consumer.ack_floor.stream_seq if consumer.ack_floor else 0
