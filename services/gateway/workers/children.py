"""The parent's handle of one worker: its process, and the socket to it."""

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
from services.gateway.listener import INHERITED_SOCKET
from services.gateway.workers.identity import LINK, NUMBER, PORT
from services.gateway.workers.messages import (
    FromWorker,
    Ready,
    ReportReply,
    ReportRequest,
    ToWorker,
    WorkerReport,
    from_worker,
    send,
)

log = structlog.get_logger(__name__)

COMMAND = (sys.executable, "-m", "services", "serve", "gateway")

PARENT_VARIABLES = (INHERITED_SOCKET, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Environment variables about sockets that were passed to the parent; workers do not get them."""


class Worker:
    """A running worker process."""

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter
    ) -> None:
        """Use `start` instead."""
        self.number = number
        self.process = process
        self.is_ready = False
        """Whether it serves requests now."""
        self.was_ready = False
        """Whether it has ever served requests."""
        self.last_message_at = time.monotonic()
        """When its last message arrived, by `time.monotonic`."""
        self._writer = writer
        self._report_requests: dict[int, asyncio.Future[WorkerReport]] = {}
        self._last_id = 0

    @classmethod
    async def start(
        cls,
        number: int,
        port: socket.socket,
        on_message: Callable[[Worker, FromWorker], None],
    ) -> Worker:
        """Start a worker process.

        Args:
            number: from 1.
            port: socket that reserves the port on which the worker listens.
            on_message: called with each message of the worker, except replies to `report`.

        Raises:
            OSError: the process cannot be started.
        """
        own_end, worker_end = socket.socketpair()
        try:
            environment = {
                key: value for key, value in os.environ.items() if key not in PARENT_VARIABLES
            }
            environment |= {
                NUMBER: str(number),
                LINK: str(worker_end.fileno()),
                PORT: str(port.fileno()),
            }
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
                pass_fds=(port.fileno(), worker_end.fileno()),
            )
            reader, writer = await asyncio.open_unix_connection(sock=own_end)
        except BaseException:
            own_end.close()
            raise
        finally:
            worker_end.close()
        worker = cls(number, process, writer)
        worker._reading = asyncio.create_task(worker._read(reader, on_message))
        return worker

    _reading: asyncio.Task[None]

    async def wait(self) -> int:
        """Wait until the process ends. Return its exit code, or the negative signal number."""
        code = await self.process.wait()
        self.is_ready = False
        # Messages that it sent before its end are still processed.
        await self._reading
        self._writer.close()
        return code

    def send(self, message: ToWorker) -> None:
        """Send a message to the worker."""
        send(self._writer, message)

    async def report(self, *, metrics: bool, within: float) -> WorkerReport | None:
        """Request the worker's state.

        Return None if it is not ready, or does not reply within `within` seconds.
        """
        if not self.is_ready:
            return None
        self._last_id += 1
        id = self._last_id
        reply: asyncio.Future[WorkerReport] = asyncio.get_running_loop().create_future()
        self._report_requests[id] = reply
        try:
            self.send(ReportRequest(id, metrics))
            async with asyncio.timeout(within):
                return await reply
        except TimeoutError:
            return None
        finally:
            del self._report_requests[id]

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def _read(
        self, reader: asyncio.StreamReader, on_message: Callable[[Worker, FromWorker], None]
    ) -> None:
        try:
            while (message := await from_worker(reader)) is not None:
                self.last_message_at = time.monotonic()
                if isinstance(message, ReportReply):
                    reply = self._report_requests.get(message.id)
                    if reply is not None and not reply.done():
                        reply.set_result(message.report)
                    continue
                if isinstance(message, Ready):
                    self.is_ready = self.was_ready = True
                on_message(self, message)
        except msgspec.MsgspecError as error:
            # The code on disk was replaced by another version while the gateway ran, and this
            # worker was started from it. It stays unusable until the gateway is restarted.
            FAILURES.labels("workers", "undecodable").inc()
            log.warning("a worker sent a message that the parent does not know", reason=str(error))
            self.send_signal(signal.SIGTERM)
