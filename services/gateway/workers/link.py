"""A worker's side: what it asks the others through the parent, and what it is asked.

A gateway of one process has no others to ask.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import REGISTRY

from hogsend.service.metrics import FAILURES
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.messages import (
    Ask,
    Counted,
    Ready,
    Report,
    Reported,
    Told,
    WorkerReport,
    send,
    to_worker,
)
from services.gateway.workers.place import Place
from services.gateway.workers.samples import UP, WANTED, Collected, families_of

log = structlog.get_logger(__name__)

ASK_SECONDS = 1.5
"""How long the parent may take; it waits for less."""
ORPHAN_SECONDS = 10.0
"""How long a worker may take to stop once its parent is gone; nothing else would end it."""

Heard = Callable[[str, str], None]


class Workers:
    """The workers of this gateway, as one of them sees them."""

    def __init__(self, queue: WebhookQueue, place: Place | None = None, wanted: int = 1) -> None:
        """Know one's own place.

        Args:
            queue: of this worker.
            place: which one it is; None where it is the whole gateway.
            wanted: how many there should be.
        """
        self.wanted = wanted
        self.heard: Heard = lambda _kind, _who: None
        """Told what the others counted."""
        self._queue = queue
        self._number = place.number if place else 1
        self._link = place.link if place else None
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[Told]] = {}
        self._last_id = 0
        self._asking: asyncio.Task[Told] | None = None
        self._ready = False
        WANTED.set(wanted)

    def own_report(self, *, metrics: bool) -> WorkerReport:
        """Say how this worker is."""
        return WorkerReport(
            self._number,
            self._queue.spooling,
            self._queue.waiting,
            self._queue.refused,
            self._queue.files_aside,
            families_of(REGISTRY, parents=False) if metrics else [],
            self._queue.is_full,
        )

    async def reports(self) -> Sequence[WorkerReport]:
        """Say how this worker is, and those of the others that answer."""
        own = self.own_report(metrics=False)
        if self._writer is None:
            return [own]
        # One question for all who ask at the same time: health is open to everybody.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(metrics=False))
        return [own, *(await asyncio.shield(self._asking)).reports]

    async def waiting(self) -> int | None:
        """Webhooks in the spool, in the parts of all workers that say it; None for 0 of some."""
        reports = await self.reports()
        waiting = sum(report.waiting for report in reports)
        return waiting if waiting or len(reports) >= self.wanted else None

    async def metrics(self) -> bytes | None:
        """Give the metrics of all workers; None where there is but this process."""
        if self._writer is None:
            return None
        told = await self._ask(metrics=True)
        reports = [self.own_report(metrics=True), *told.reports]
        return Collected(
            told.families, {report.number: report.families for report in reports}
        ).text()

    def count(self, kind: str, who: str) -> None:
        """Let the others know of something that a limit counts."""
        if self._writer is not None:
            send(self._writer, Counted(kind, who))

    def ready(self) -> None:
        """Let the parent know that this worker serves."""
        self._ready = True
        UP.set(1)
        if self._writer is not None:
            send(self._writer, Ready())

    async def listen(self) -> None:
        """Answer the parent for as long as it lives; stop this process with it."""
        if self._link is None:
            return
        reader, writer = await asyncio.open_unix_connection(sock=self._link)
        self._writer = writer
        if self._ready:
            send(writer, Ready())
        try:
            while (message := await to_worker(reader)) is not None:
                self._take(writer, message)
        finally:
            self._writer = None
            writer.close()
        log.warning("the gateway's parent process is gone; this worker stops")
        _exit_within(ORPHAN_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    def _take(self, writer: asyncio.StreamWriter, message: Report | Told | Counted) -> None:
        if isinstance(message, Report):
            send(writer, Reported(message.id, self.own_report(metrics=message.metrics)))
        elif isinstance(message, Counted):
            self.heard(message.kind, message.who)
        elif (asked := self._asked.get(message.id)) is not None and not asked.done():
            asked.set_result(message)

    async def _ask(self, *, metrics: bool) -> Told:
        self._last_id += 1
        id = self._last_id
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._asked[id] = answer
        try:
            if self._writer is not None:
                send(self._writer, Ask(id, metrics))
            async with asyncio.timeout(ASK_SECONDS):
                return await answer
        except TimeoutError:
            # Then this worker speaks for itself alone, and it can be seen how many answered.
            FAILURES.labels("workers", "no_answer").inc()
            log.debug("the parent did not answer for the other workers", seconds=ASK_SECONDS)
            return Told(id, [], [])
        finally:
            del self._asked[id]


def _exit_within(seconds: float) -> None:
    # Not a task: the loop may be what hangs.
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
