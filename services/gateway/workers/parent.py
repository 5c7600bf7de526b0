"""The parent process: opens the port, keeps the workers running, and serves their metrics.

It serves no requests of clients. A worker that ends is started again; a worker that no longer
replies is killed first. Each worker has a socket to the parent, and stops when that socket is
closed. So no worker outlives its parent, however the parent ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator, Sequence

import structlog
from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

from hogsend.service import metrics
from hogsend.service.heartbeat import touch
from hogsend.service.settings.shared import TelemetrySettings
from hogsend.service.signal_names import signal_name
from hogsend.service.tasks import cancel_all
from services.gateway.settings import GatewaySettings
from services.gateway.workers.children import Worker
from services.gateway.workers.messages import (
    Counted,
    FromWorker,
    PeersReply,
    PeersRequest,
    WorkerReport,
)
from services.gateway.workers.samples import EXPECTED, RESTARTS, UP, Collected, families_of

log = structlog.get_logger(__name__)

FIRST_WORKER_SECONDS = 10.0
"""Time in which only the first worker starts, to show whether the gateway can start at all."""
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0
"""Delays between starts of a worker that keeps ending. Its first restart has no delay."""
STABLE_SECONDS = 30.0
"""A worker that ran at least this long is restarted without a delay."""
STOP_SECONDS = 10.5
"""Time in which workers must stop. A service drains within ten seconds."""
PROBE_SECONDS = 5.0
"""Interval at which the parent probes whether workers still reply."""
HUNG_SECONDS = 30.0
"""A worker that has sent nothing for this long is killed."""
REPLY_SECONDS = 1.0
"""Time in which a worker must report its state. After it, the report is omitted."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
CANNOT_START = frozenset({1, 2})
"""Exit codes of a process that logged why it cannot run. A retry alone does not help."""


class Parent:
    """Starts, probes and stops the workers of one gateway."""

    def __init__(
        self, settings: GatewaySettings, observed: TelemetrySettings, port: socket.socket
    ) -> None:
        """Prepare to run `settings.gateway_workers` workers.

        Args:
            settings: the gateway's settings.
            observed: names the health file.
            port: socket that reserves the port on which all workers listen.
        """
        self._numbers = range(1, settings.gateway_workers + 1)
        self._health_file = observed.health_file
        self._port = port
        self._workers: dict[int, Worker] = {}
        self._failed: set[int] = set()
        """Numbers of workers that could not start and have not served since."""
        self._stopping = asyncio.Event()
        self._others_may_start = asyncio.Event()
        """Set once the first worker serves, or when the gateway stops."""
        self._has_served = False
        """Whether any worker has ever served requests."""
        self._replies: set[asyncio.Task[None]] = set()
        """Tasks that reply to a worker's `PeersRequest`."""
        self._exit_code = 0
        EXPECTED.set(settings.gateway_workers)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until no worker can start. Return the exit code."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        keeping = [asyncio.create_task(self._keep(number)) for number in self._numbers]
        probing = asyncio.create_task(self._probe())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # Only `stopping` ends without an error. An error in another task is a bug: it is raised
            # here, and stops the gateway.
            done, _ = await asyncio.wait(
                {*keeping, probing, stopping}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            self.stop()
            await self._stop_workers(keeping)
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
            await cancel_all(stopping, probing, *keeping, *self._replies)
        return self._exit_code

    def stop(self) -> None:
        """Stop all workers, and let `run` return."""
        if not self._stopping.is_set():
            log.info("stopping", workers=len(self._workers))
        self._stopping.set()
        self._others_may_start.set()

    async def reports(self, *, metrics: bool, without: Worker | None = None) -> list[WorkerReport]:
        """Request the state of all workers except `without`, and omit those that do not reply."""
        workers = [worker for worker in self._workers.values() if worker is not without]
        replies = await asyncio.gather(
            *(worker.report(metrics=metrics, within=REPLY_SECONDS) for worker in workers)
        )
        return [reply for reply in replies if reply is not None]

    async def collected(self) -> Collected:
        """Combine the parent's metrics and those of all workers."""
        reports = await self.reports(metrics=True)
        return Collected(
            families_of(REGISTRY, parent=True),
            {report.number: report.families for report in reports},
        )

    async def _keep(self, number: int) -> None:
        """Keep one worker running until the gateway stops."""
        if number != self._numbers[0]:
            await self._pause(FIRST_WORKER_SECONDS, self._others_may_start)
        attempts = 0
        while not self._stopping.is_set():
            started_at = time.monotonic()
            code = await self._run_once(number)
            if self._stopping.is_set():
                return
            attempts = 1 if time.monotonic() - started_at > STABLE_SECONDS else attempts + 1
            if self._cannot_continue():
                log.error("no worker can start", end=_exit_reason(code))
                self._exit_code = code
                self.stop()
                return
            log.warning(
                "a worker ended and is started again", worker=number, end=_exit_reason(code)
            )
            RESTARTS.inc()
            await self._pause(_delay(attempts), self._stopping)

    async def _run_once(self, number: int) -> int:
        """Run a worker until it ends. Return its exit code, or the negative signal number."""
        try:
            worker = await Worker.start(number, self._port, self._on_message)
        except OSError as error:
            metrics.FAILURES.labels("workers", "not_started").inc()
            log.warning("a worker cannot be started", worker=number, reason=str(error))
            self._failed.add(number)
            return 1
        self._workers[number] = worker
        if self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
        try:
            code = await worker.wait()
        finally:
            del self._workers[number]
            self._update_up_gauge()
        if code in CANNOT_START and not worker.was_ready:
            self._failed.add(number)
        return code

    def _cannot_continue(self) -> bool:
        """Whether the first worker could not start, or now none can."""
        first_failed = not self._has_served and bool(self._failed)
        return first_failed or len(self._failed) == len(self._numbers)

    async def _pause(self, seconds: float, until: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await until.wait()

    def _on_message(self, worker: Worker, message: FromWorker) -> None:
        if isinstance(message, Counted):
            for other in self._workers.values():
                if other is not worker:
                    other.send(message)
        elif isinstance(message, PeersRequest):
            replying = asyncio.create_task(self._reply(worker, message))
            self._replies.add(replying)
            replying.add_done_callback(self._replies.discard)
        else:
            self._failed.discard(worker.number)
            self._has_served = True
            self._others_may_start.set()
            self._update_up_gauge()
            log.info("a worker serves", worker=worker.number, pid=worker.process.pid)

    async def _reply(self, worker: Worker, request: PeersRequest) -> None:
        reports = await self.reports(metrics=request.metrics, without=worker)
        families = families_of(REGISTRY, parent=True) if request.metrics else []
        worker.send(PeersReply(request.id, reports, families))

    def _update_up_gauge(self) -> None:
        UP.set(sum(worker.is_ready for worker in self._workers.values()))

    async def _probe(self) -> None:
        """Kill workers that hang. Touch the health file while any worker replies or none serves."""
        while True:
            serving = [worker for worker in self._workers.values() if worker.is_ready]
            replies = await self.reports(metrics=False)
            now = time.monotonic()
            for worker in serving:
                if now - worker.last_message_at > HUNG_SECONDS:
                    metrics.FAILURES.labels("workers", "hung").inc()
                    log.error("a worker does not answer and is killed", worker=worker.number)
                    worker.send_signal(signal.SIGKILL)
            if replies or not serving:
                touch(self._health_file)
            await asyncio.sleep(PROBE_SECONDS)

    async def _stop_workers(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        self._port.close()
        for worker in self._workers.values():
            worker.send_signal(signal.SIGTERM)
        _, unfinished = await asyncio.wait(keeping, timeout=STOP_SECONDS)
        if unfinished:
            log.error("workers did not stop in time and are killed", workers=len(self._workers))
            for worker in self._workers.values():
                worker.send_signal(signal.SIGKILL)
            await asyncio.wait(unfinished)


class WorkersMetrics(Collector):
    """The metrics of all workers. The metrics server collects them from a thread of its own."""

    def __init__(self, parent: Parent, loop: asyncio.AbstractEventLoop) -> None:
        self._parent = parent
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Request the metrics from the workers, and yield them; none if that takes too long."""
        collecting = asyncio.run_coroutine_threadsafe(self._parent.collected(), self._loop)
        try:
            collected = collecting.result(2 * REPLY_SECONDS)
        except TimeoutError:
            metrics.FAILURES.labels("workers", "no_answer").inc()
            log.debug("the metrics of the workers took too long", seconds=2 * REPLY_SECONDS)
            collecting.cancel()
            return
        yield from collected.collect()


def _delay(attempts: int) -> float:
    """Return how many seconds to wait before a start, after `attempts` short runs in a row."""
    return (
        0.0
        if attempts <= 1
        else min(FIRST_DELAY_SECONDS * 2 ** (attempts - 2), LONGEST_DELAY_SECONDS)
    )


def _exit_reason(code: int) -> str:
    return signal_name(-code) if code < 0 else f"code {code}"
