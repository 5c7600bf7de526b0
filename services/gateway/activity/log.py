"""Asks every process what it did, again and again, and keeps an hour of that in memory.

Each gateway asks for itself, and asks the other gateways, too: what it says is about all of them.
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
from services.gateway.activity.documents import ActivityReport, Instances, Point, Series
from services.gateway.activity.rates import Answer, Asking, point
from services.gateway.webhooks.refusals import REFUSED
from services.gateway.webhooks.spool.spool import BYTES, WAITING
from services.gateway.webhooks.webhook_queue import ACCEPTED

log = structlog.get_logger(__name__)

EVERY_SECONDS = 10.0
KEPT = 360
"""Points: an hour of them."""
ANSWER_SECONDS = 1.0
"""How long processes may take to answer."""
REFUSED_SECONDS = 300.0
"""How long a server that refuses to let the gateway ask is left alone."""

_decode = msgspec.json.Decoder(Stats).decode
_STARTED = datetime.now(UTC)


def gateway_activity() -> Activity:
    """Say what this process did."""
    return Activity(
        gateway=GatewayActivity(
            webhooks=total(ACCEPTED),
            refused=total(REFUSED),
            spooled=int(level(WAITING)),
            spool_bytes=int(level(BYTES)),
        )
    )


class ActivityLog:
    """What was answered last, and the points of an hour."""

    def __init__(
        self,
        bus: Connection,
        *,
        seconds: float = ANSWER_SECONDS,
        own: Callable[[], Activity] = gateway_activity,
    ) -> None:
        """Prepare to ask.

        Args:
            bus: where everybody is asked.
            seconds: how long they may take.
            own: what this gateway did, which is known without a bus.
        """
        self._bus = bus
        self._seconds = seconds
        self._own = own
        self._last: Asking | None = None
        self._points = deque[tuple[int, Point]](maxlen=KEPT)
        self._not_before = 0.0

    async def keep(self, instance: str) -> None:
        """Ask until cancelled; `instance` is the id that this process answers with itself."""
        while True:
            await self.ask(instance, datetime.now(UTC))
            await asyncio.sleep(EVERY_SECONDS - time.time() % EVERY_SECONDS)

    async def ask(self, instance: str, at: datetime) -> None:
        """Ask everybody once."""
        answers = {
            **await self._everybody(),
            instance: Answer(_STARTED, self._own()),
        }
        asking = Asking(at, time.monotonic(), answers)
        place = round(at.timestamp() / EVERY_SECONDS)
        while self._points and self._points[-1][0] >= place:
            # The clock was set back, or a pause was a little too short.
            self._points.pop()
        self._points.append((place, point(self._last, asking)))
        self._last = asking

    def report(self) -> ActivityReport:
        """Say what is known."""
        last = self._points[-1] if self._points else None
        known = dict(self._points)
        places: range | list[int] = []
        if last is not None:
            places = range(max(self._points[0][0], last[0] - KEPT + 1), last[0] + 1)
        points = [known.get(place) for place in places]
        series = {
            name: [getattr(one, name) if one is not None else None for one in points]
            for name in Series.__struct_fields__
        }
        return ActivityReport(
            at=self._last.at if self._last is not None else None,
            every_seconds=EVERY_SECONDS,
            since=datetime.fromtimestamp(places[0] * EVERY_SECONDS, UTC) if places else None,
            instances=self._last.instances if self._last is not None else Instances(),
            latest=last[1] if last is not None else Point(),
            series=Series(**series),
        )

    async def _everybody(self) -> Mapping[str, Answer]:
        if time.monotonic() < self._not_before:
            return {}
        try:
            bodies = await self._bus.request_many(ACTIVITY_SUBJECT, seconds=self._seconds)
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
        answers = {}
        for body in bodies:
            try:
                stats = _decode(body)
            except NOT_JSON:
                # Others answer there as they like.
                continue
            if stats.data is not None:
                answers[stats.id] = Answer(stats.started, stats.data)
        return answers
