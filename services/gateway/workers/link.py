"""A worker's link to the parent, through which workers exchange their state and counts.

A gateway of one process has no parent: it only reports its own state.
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
from services.gateway.workers.identity import WorkerIdentity
from services.gateway.workers.messages import (
    Counted,
    PeersReply,
    PeersRequest,
    Ready,
    ReportReply,
    ReportRequest,
    ToWorker,
    WorkerReport,
    send,
    to_worker,
)
from services.gateway.workers.samples import EXPECTED, UP, Collected, families_of

log = structlog.get_logger(__name__)

PEERS_SECONDS = 1.5
"""Timeout for the parent's reply. The parent itself waits at most 1 s for the other workers."""
ORPHAN_SECONDS = 10.0
"""Time in which a worker must stop after its parent has ended. It then exits without draining."""

OnCounted = Callable[[str, str], None]
"""Called with a `Counted` message's kind and subject."""


class Workers:
    """The workers of this gateway, as seen by one of them."""

    def __init__(
        self, queue: WebhookQueue, identity: WorkerIdentity | None = None, expected: int = 1
    ) -> None:
        """Prepare the link to the parent.

        Args:
            queue: the webhook queue of this worker.
            identity: which worker this process is; None for a gateway of one process.
            expected: how many workers should run.
        """
        self.expected = expected
        self.on_counted: OnCounted = lambda _kind, _subject: None
        """Called when another worker counted something towards a rate limit."""
        self._queue = queue
        self._number = identity.number if identity else 1
        self._link = identity.link if identity else None
        self._writer: asyncio.StreamWriter | None = None
        self._requests: dict[int, asyncio.Future[PeersReply]] = {}
        self._last_id = 0
        self._shared_request: asyncio.Task[PeersReply] | None = None
        self._ready = False
        EXPECTED.set(expected)

    def own_report(self, *, metrics: bool) -> WorkerReport:
        """Return the state of this worker."""
        return WorkerReport(
            self._number,
            self._queue.spooling,
            self._queue.waiting,
            self._queue.refused,
            self._queue.files_aside,
            families_of(REGISTRY, parent=False) if metrics else [],
            self._queue.is_full,
        )

    async def reports(self) -> Sequence[WorkerReport]:
        """Return the state of this worker, and of the others that reply."""
        own = self.own_report(metrics=False)
        if self._writer is None:
            return [own]
        # Concurrent callers share one request: anybody may request the health documents.
        if self._shared_request is None or self._shared_request.done():
            self._shared_request = asyncio.create_task(self._request(metrics=False))
        return [own, *(await asyncio.shield(self._shared_request)).reports]

    async def waiting(self) -> int | None:
        """Return how many webhooks are in the spool.

        This is the sum of the workers that reply. None if that is 0 and some did not reply.
        """
        reports = await self.reports()
        waiting = sum(report.waiting for report in reports)
        return waiting if waiting or len(reports) >= self.expected else None

    async def metrics(self) -> bytes | None:
        """Return the metrics of all workers, or None in a gateway of one process."""
        if self._writer is None:
            return None
        reply = await self._request(metrics=True)
        reports = [self.own_report(metrics=True), *reply.reports]
        return Collected(
            reply.families, {report.number: report.families for report in reports}
        ).text()

    def publish_count(self, kind: str, subject: str) -> None:
        """Report to the other workers what this one counted towards a rate limit."""
        if self._writer is not None:
            send(self._writer, Counted(kind, subject))

    def report_ready(self) -> None:
        """Report to the parent that this worker serves requests."""
        self._ready = True
        UP.set(1)
        if self._writer is not None:
            send(self._writer, Ready())

    async def listen(self) -> None:
        """Process the parent's messages until it ends, then stop this process."""
        if self._link is None:
            return
        reader, writer = await asyncio.open_unix_connection(sock=self._link)
        self._writer = writer
        if self._ready:
            send(writer, Ready())
        try:
            while (message := await to_worker(reader)) is not None:
                self._on_message(writer, message)
        finally:
            self._writer = None
            writer.close()
        log.warning("the gateway's parent process has ended; this worker stops")
        _exit_within(ORPHAN_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    def _on_message(self, writer: asyncio.StreamWriter, message: ToWorker) -> None:
        if isinstance(message, ReportRequest):
            send(writer, ReportReply(message.id, self.own_report(metrics=message.metrics)))
        elif isinstance(message, Counted):
            self.on_counted(message.kind, message.subject)
        elif (request := self._requests.get(message.id)) is not None and not request.done():
            request.set_result(message)

    async def _request(self, *, metrics: bool) -> PeersReply:
        """Request the state of the other workers. After a timeout the reply is empty."""
        self._last_id += 1
        id = self._last_id
        reply: asyncio.Future[PeersReply] = asyncio.get_running_loop().create_future()
        self._requests[id] = reply
        try:
            if self._writer is not None:
                send(self._writer, PeersRequest(id, metrics))
            async with asyncio.timeout(PEERS_SECONDS):
                return await reply
        except TimeoutError:
            # Callers then see only this worker, and that fewer replied than expected.
            FAILURES.labels("workers", "no_answer").inc()
            log.debug("the parent did not reply for the other workers", seconds=PEERS_SECONDS)
            return PeersReply(id, [], [])
        finally:
            del self._requests[id]


def _exit_within(seconds: float) -> None:
    # A thread, because a task would not run if the event loop hangs.
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
