"""The parent: opens the port, keeps the workers running, and answers for all of them.

It serves no request. A worker that ends is started again; one that does not answer
any more is killed first. Each says through its socket that it serves, and stops when that is
closed: however the parent ends, no worker outlives it.
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
from services.gateway.workers.messages import Ask, Counted, FromWorker, Told, WorkerReport
from services.gateway.workers.samples import RESTARTS, UP, WANTED, Collected, families_of

log = structlog.get_logger(__name__)

ALONE_SECONDS = 10.0
"""How long the others wait for the first one, which finds out whether the gateway can start."""
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0
"""Between two starts of a worker that keeps ending; the first restart is at once."""
STABLE_SECONDS = 30.0
"""A worker that ran so long is restarted at once again."""
STOP_SECONDS = 10.5
"""How long workers may take to stop; a service drains within ten seconds."""
LOOK_SECONDS = 5.0
"""How often workers are asked whether they still answer."""
HUNG_SECONDS = 30.0
"""A worker that has not answered for so long is killed."""
ANSWER_SECONDS = 1.0
"""How long a worker may take to say how it is, before it is left out."""

STOPS = (signal.SIGTERM, signal.SIGINT)
CANNOT_START = frozenset({1, 2})
"""Exit codes of a process that says why it cannot run: a retry helps only if something changes."""


class Parent:
    """Keeps the workers of one gateway running."""

    def __init__(
        self, settings: GatewaySettings, observed: TelemetrySettings, port: socket.socket
    ) -> None:
        """Prepare to run `settings.gateway_workers` of them.

        Args:
            settings: the gateway's.
            observed: where its health and metrics are shown.
            port: where they all listen.
        """
        self._numbers = range(1, settings.gateway_workers + 1)
        self._health_file = observed.health_file
        self._port = port
        self._workers: dict[int, Worker] = {}
        self._failed: set[int] = set()
        """Workers that could not start, and have not served since."""
        self._stopping = asyncio.Event()
        self._others_start = asyncio.Event()
        """Once the first one has served, or when everything stops."""
        self._has_served = False
        self._telling: set[asyncio.Task[None]] = set()
        self._code = 0
        WANTED.set(settings.gateway_workers)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until no worker can start; give the exit code."""
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self.stop)
        keeping = [asyncio.create_task(self._keep(number)) for number in self._numbers]
        looking = asyncio.create_task(self._look())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # None but the last ends before; one that fails is a fault of ours, and ends all.
            done, _ = await asyncio.wait(
                {*keeping, looking, stopping}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            self.stop()
            await self._stop_workers(keeping)
            for number in STOPS:
                loop.remove_signal_handler(number)
            await cancel_all(stopping, looking, *keeping, *self._telling)
        return self._code

    def stop(self) -> None:
        """Have everything stop."""
        if not self._stopping.is_set():
            log.info("stopping", workers=len(self._workers))
        self._stopping.set()
        self._others_start.set()

    async def reports(self, *, metrics: bool, without: Worker | None = None) -> list[WorkerReport]:
        """Ask every worker at once how it is; those that do not answer are left out."""
        asked = [worker for worker in self._workers.values() if worker is not without]
        answers = await asyncio.gather(
            *(worker.report(metrics=metrics, within=ANSWER_SECONDS) for worker in asked)
        )
        return [answer for answer in answers if answer is not None]

    async def collected(self) -> Collected:
        """Put the metrics of all workers together."""
        reports = await self.reports(metrics=True)
        return Collected(
            families_of(REGISTRY, parents=True),
            {report.number: report.families for report in reports},
        )

    async def _keep(self, number: int) -> None:
        if number != self._numbers[0]:
            await self._pause(ALONE_SECONDS, self._others_start)
        attempts = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(number)
            if self._stopping.is_set():
                return
            attempts = 1 if time.monotonic() - started > STABLE_SECONDS else attempts + 1
            if self._cannot_go_on():
                log.error("no worker can start", end=_ended(code))
                self._code = code
                self.stop()
                return
            log.warning("a worker ended and is started again", worker=number, end=_ended(code))
            RESTARTS.inc()
            await self._pause(_delay(attempts), self._stopping)

    async def _run_once(self, number: int) -> int:
        """Run a worker to its end, and give its exit code; negative for a signal."""
        try:
            worker = await Worker.start(number, self._port, self._heard)
        except OSError as error:
            metrics.FAILURES.labels("workers", "not_started").inc()
            log.warning("a worker cannot be started", worker=number, reason=str(error))
            self._failed.add(number)
            return 1
        self._workers[number] = worker
        if self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
        try:
            code = await worker.ended()
        finally:
            del self._workers[number]
            self._count_up()
        if code in CANNOT_START and not worker.was_ready:
            self._failed.add(number)
        return code

    def _cannot_go_on(self) -> bool:
        first = not self._has_served and bool(self._failed)
        return first or len(self._failed) == len(self._numbers)

    async def _pause(self, seconds: float, until: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await until.wait()

    def _heard(self, worker: Worker, message: FromWorker) -> None:
        if isinstance(message, Counted):
            for other in self._workers.values():
                if other is not worker:
                    other.tell(message)
        elif isinstance(message, Ask):
            telling = asyncio.create_task(self._tell(worker, message))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        else:
            self._failed.discard(worker.number)
            self._has_served = True
            self._others_start.set()
            self._count_up()
            log.info("a worker serves", worker=worker.number, pid=worker.process.pid)

    async def _tell(self, worker: Worker, asked: Ask) -> None:
        reports = await self.reports(metrics=asked.metrics, without=worker)
        families = families_of(REGISTRY, parents=True) if asked.metrics else []
        worker.tell(Told(asked.id, reports, families))

    def _count_up(self) -> None:
        UP.set(sum(worker.is_ready for worker in self._workers.values()))

    async def _look(self) -> None:
        """Kill workers that hang, and say that this process works while any of the others does."""
        while True:
            serving = [worker for worker in self._workers.values() if worker.is_ready]
            answers = await self.reports(metrics=False)
            now = time.monotonic()
            for worker in serving:
                if now - worker.answered > HUNG_SECONDS:
                    metrics.FAILURES.labels("workers", "hung").inc()
                    log.error("a worker does not answer and is killed", worker=worker.number)
                    worker.send_signal(signal.SIGKILL)
            if answers or not serving:
                touch(self._health_file)
            await asyncio.sleep(LOOK_SECONDS)

    async def _stop_workers(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        self._port.close()
        for worker in self._workers.values():
            worker.send_signal(signal.SIGTERM)
        _, late = await asyncio.wait(keeping, timeout=STOP_SECONDS)
        if late:
            log.error("workers did not stop in time and are killed", workers=len(self._workers))
            for worker in self._workers.values():
                worker.send_signal(signal.SIGKILL)
            await asyncio.wait(late)


class WorkersMetrics(Collector):
    """The metrics of all workers, for a server that is in a thread."""

    def __init__(self, parent: Parent, loop: asyncio.AbstractEventLoop) -> None:
        self._parent = parent
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Ask the workers."""
        asking = asyncio.run_coroutine_threadsafe(self._parent.collected(), self._loop)
        try:
            found = asking.result(2 * ANSWER_SECONDS)
        except TimeoutError:
            metrics.FAILURES.labels("workers", "no_answer").inc()
            log.debug("the metrics of the workers took too long", seconds=2 * ANSWER_SECONDS)
            asking.cancel()
            return
        yield from found.collect()


def _delay(attempts: int) -> float:
    """Seconds before a worker is started again that has ended so often in a row."""
    return (
        0.0
        if attempts <= 1
        else min(FIRST_DELAY_SECONDS * 2 ** (attempts - 2), LONGEST_DELAY_SECONDS)
    )


def _ended(code: int) -> str:
    return signal_name(-code) if code < 0 else f"code {code}"
