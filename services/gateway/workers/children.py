"""One worker, as the parent sees it: its process, and the socket between the two."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import msgspec
import structlog

from hogsend.service.metrics import FAILURES
from services.gateway.listener import PASSED_ON
from services.gateway.workers.messages import (
    FromWorker,
    Ready,
    Report,
    Reported,
    ToWorker,
    WorkerReport,
    from_worker,
    send,
)
from services.gateway.workers.place import LINK, NUMBER, PORT

log = structlog.get_logger(__name__)

COMMAND = (sys.executable, "-m", "services", "serve", "gateway")

PARENTS = (PASSED_ON, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables about sockets that were for the parent."""


class Worker:
    """A worker that runs."""

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter
    ) -> None:
        """Use `start`."""
        self.number = number
        self.process = process
        self.is_ready = False
        """Whether it serves now."""
        self.was_ready = False
        self.answered = time.monotonic()
        """When it said something for the last time."""
        self._writer = writer
        self._asked: dict[int, asyncio.Future[WorkerReport]] = {}
        self._last_id = 0

    @classmethod
    async def start(
        cls,
        number: int,
        port: socket.socket,
        heard: Callable[[Worker, FromWorker], None],
    ) -> Worker:
        """Start a worker.

        Args:
            number: from 1.
            port: where it is to listen.
            heard: told what this worker says without being asked.

        Raises:
            OSError: no process can be started.
        """
        ours, theirs = socket.socketpair()
        try:
            environment = {key: value for key, value in os.environ.items() if key not in PARENTS}
            environment |= {
                NUMBER: str(number),
                LINK: str(theirs.fileno()),
                PORT: str(port.fileno()),
            }
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
                pass_fds=(port.fileno(), theirs.fileno()),
            )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = cls(number, process, writer)
        worker._reading = asyncio.create_task(worker._read(reader, heard))
        return worker

    _reading: asyncio.Task[None]

    async def ended(self) -> int:
        """Wait for its end, and give its exit code; negative for a signal."""
        code = await self.process.wait()
        self.is_ready = False
        # What it said last is still heard.
        await self._reading
        self._writer.close()
        return code

    def tell(self, message: ToWorker) -> None:
        """Send it something."""
        send(self._writer, message)

    async def report(self, *, metrics: bool, within: float) -> WorkerReport | None:
        """Ask how it is; None when it does not answer in time, or is not ready."""
        if not self.is_ready:
            return None
        self._last_id += 1
        id = self._last_id
        answer: asyncio.Future[WorkerReport] = asyncio.get_running_loop().create_future()
        self._asked[id] = answer
        try:
            self.tell(Report(id, metrics))
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[id]

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def _read(
        self, reader: asyncio.StreamReader, heard: Callable[[Worker, FromWorker], None]
    ) -> None:
        try:
            while (message := await from_worker(reader)) is not None:
                self.answered = time.monotonic()
                if isinstance(message, Reported):
                    asked = self._asked.get(message.id)
                    if asked is not None and not asked.done():
                        asked.set_result(message.report)
                    continue
                if isinstance(message, Ready):
                    self.is_ready = self.was_ready = True
                heard(self, message)
        except msgspec.MsgspecError as error:
            # Another version's code was put below a gateway that runs: it is to be restarted.
            FAILURES.labels("workers", "undecodable").inc()
            log.warning("a worker sent a message that the parent does not know", reason=str(error))
            self.send_signal(signal.SIGTERM)
