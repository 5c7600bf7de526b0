"""Queries the activity of all processes periodically, and keeps the last hour in memory.

Each gateway also queries the other gateways, so the log of each gateway covers all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from hogsend.contract.activity import ACTIVITY_SUBJECT, Activity, GatewayActivity
from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics
from hogsend.service.activity import level, total
from hogsend.service.discovery import Stats
from hogsend.transport.connection import Connection
from hogsend.transport.scatter_gather import request_many
from services.gateway.activity.documents import ActivityReport, Instances, Point, Series
from services.gateway.activity.rates import Reply, Snapshot, point
from services.gateway.webhooks.refusals import REFUSED
from services.gateway.webhooks.spool.spool import BYTES, WAITING
from services.gateway.webhooks.webhook_queue import ACCEPTED

log = structlog.get_logger(__name__)

EVERY_SECONDS = 10.0
MAX_POINTS = 360
"""Points of one hour."""
REPLY_SECONDS = 1.0
"""Time in which processes must reply."""
REFUSED_SECONDS = 300.0
"""Pause after a NATS server that does not permit the query."""

_decode = msgspec.json.Decoder(Stats).decode
_STARTED = datetime.now(UTC)


def gateway_activity() -> Activity:
    """Return the activity of this process."""
    return Activity(
        gateway=GatewayActivity(
            webhooks=total(ACCEPTED),
            refused=total(REFUSED),
            spooled=int(level(WAITING)),
            spool_bytes=int(level(BYTES)),
        )
    )


class ActivityLog:
    """The latest snapshot, and the points of the last hour."""

    def __init__(
        self,
        bus: Connection,
        *,
        seconds: float = REPLY_SECONDS,
        own: Callable[[], Activity] = gateway_activity,
    ) -> None:
        """Prepare the queries.

        Args:
            bus: connection to all processes.
            seconds: time in which they must reply.
            own: returns the activity of this process, which needs no query.
        """
        self._bus = bus
        self._seconds = seconds
        self._own = own
        self._last: Snapshot | None = None
        self._points = deque[tuple[int, Point]](maxlen=MAX_POINTS)
        """Points and their slots. A slot is a time divided by `EVERY_SECONDS`."""
        self._not_before = 0.0

    async def keep(self, instance: str) -> None:
        """Query until cancelled. `instance` is this process's id on the bus."""
        while True:
            await self.query(instance, datetime.now(UTC))
            await asyncio.sleep(EVERY_SECONDS - time.time() % EVERY_SECONDS)

    async def query(self, instance: str, at: datetime) -> None:
        """Query all processes once, and add a point."""
        replies = {
            **await self._replies(),
            instance: Reply(_STARTED, self._own()),
        }
        snapshot = Snapshot(at, time.monotonic(), replies)
        slot = round(at.timestamp() / EVERY_SECONDS)
        while self._points and self._points[-1][0] >= slot:
            # The clock was set back, or the sleep was slightly too short.
            self._points.pop()
        self._points.append((slot, point(self._last, snapshot)))
        self._last = snapshot

    def report(self) -> ActivityReport:
        """Return the latest point and the series of the last hour."""
        last = self._points[-1] if self._points else None
        by_slot = dict(self._points)
        slots: range | list[int] = []
        if last is not None:
            slots = range(max(self._points[0][0], last[0] - MAX_POINTS + 1), last[0] + 1)
        points = [by_slot.get(slot) for slot in slots]
        series = {
            name: [getattr(entry, name) if entry is not None else None for entry in points]
            for name in Series.__struct_fields__
        }
        return ActivityReport(
            at=self._last.at if self._last is not None else None,
            every_seconds=EVERY_SECONDS,
            since=datetime.fromtimestamp(slots[0] * EVERY_SECONDS, UTC) if slots else None,
            instances=self._last.instances if self._last is not None else Instances(),
            latest=last[1] if last is not None else Point(),
            series=Series(**series),
        )

    async def _replies(self) -> Mapping[str, Reply]:
        if time.monotonic() < self._not_before:
            return {}
        try:
            bodies = await request_many(self._bus, ACTIVITY_SUBJECT, seconds=self._seconds)
        except Unavailable as error:
            metrics.FAILURES.labels("activity", error.code).inc()
            log.debug("the activity of the services is not known", reason=str(error))
            return {}
        except Forbidden as error:
            self._not_before = time.monotonic() + REFUSED_SECONDS
            metrics.FAILURES.labels("activity", error.code).inc()
            log.warning(
                "the activity of the services is not known",
                reason=str(error),
                fix=error.fix,
            )
            return {}
        replies = {}
        for body in bodies:
            try:
                stats = _decode(body)
            except NOT_JSON:
                # The subject is shared by all NATS services, and other products reply as well.
                continue
            if stats.data is not None:
                replies[stats.id] = Reply(stats.started, stats.data)
        return replies
