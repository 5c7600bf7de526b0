"""Requests one partition for a replica, consumes it in order, and releases it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import nats.errors
import structlog
from nats.aio.msg import Msg

from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import cancel_all
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.pinned_consumer import (
    EXTENSIONS_PER_PIN,
    OverlappingConsumer,
    PinnedConsumer,
)
from hogsend.transport.pull import ConsumerGone

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5

Consume = Callable[[list[Msg]], Awaitable[None]]
"""Processes messages; when it returns, they are acknowledged or nak'ed."""


class Partition:
    """Consumes a partition while this replica owns it, one batch after the other.

    A replica owns a partition while its pull request is the pinned one of the partition's consumer.
    """

    def __init__(
        self, source: PinnedConsumer, consume: Consume, slots: asyncio.Semaphore, *, batch: int
    ) -> None:
        """Prepare; `run` sends the first request.

        Args:
            source: the partition's consumer.
            consume: processes a batch.
            slots: limits how many batches the replica processes at the same time.
            batch: most messages of a batch.
        """
        self.source = source
        self.overlaps = False
        """Whether consumers of another number of partitions exist, which receive its webhooks."""
        self._consume = consume
        self._slots = slots
        self._batch = batch
        self._requested = asyncio.Event()
        self._is_releasing = False

    @property
    def is_owned(self) -> bool:
        """Whether this replica owns the partition."""
        return self.source.is_pinned

    def request(self, requested: bool) -> None:
        """Request the partition until it is free, or stop requesting it.

        A partition that this replica owns already stays owned.
        """
        if requested:
            self._requested.set()
        else:
            self._requested.clear()

    def release(self) -> None:
        """Release the partition to another replica as soon as the current batch is settled."""
        self._is_releasing = True
        self._requested.clear()

    async def run(self) -> None:
        """Consume until cancelled; then release the partition to another replica."""
        try:
            while True:
                if not self.is_owned:
                    self._is_releasing = False
                    await self._requested.wait()
                try:
                    if self._is_releasing:
                        await self.source.unpin()
                    elif messages := await self.source.wait_for_first():
                        await self._process(messages)
                    self.overlaps = False
                    self.source.failures.clear()
                except nats.errors.ConnectionClosedError:
                    return
                except OverlappingConsumer:
                    self.overlaps = True
                    await asyncio.sleep(RETRY_SECONDS)
                except (*UNREACHABLE, ConsumerGone) as error:
                    # Messages that were delivered and not settled are redelivered to the next
                    # owner, which may be this replica.
                    self._log_failure("a partition is not read", error)
                    self.source.failures.record(error)
                    await self._stop()
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            with suppress(*UNREACHABLE):
                await self.source.unpin()
            await self._stop()

    async def _process(self, messages: list[Msg]) -> None:
        async with self._pin_extended(), self._slots:
            messages += await self.source.fetch_more(self._batch - len(messages))
            await self._consume(messages)

    @asynccontextmanager
    async def _pin_extended(self) -> AsyncIterator[None]:
        extending = asyncio.create_task(self._extend_pin_forever())
        try:
            yield
        finally:
            await cancel_all(extending)

    async def _extend_pin_forever(self) -> None:
        """Stay the owner, however long a batch takes, for example without PostgreSQL."""
        while True:
            await asyncio.sleep(self.source.pin_seconds / EXTENSIONS_PER_PIN)
            try:
                await self.source.extend_pin()
            except UNREACHABLE as error:
                self._log_failure("a partition may get another owner", error)

    def _log_failure(self, what: str, error: Exception) -> None:
        FAILURES.labels("partitions", type(error).__name__).inc()
        log.debug(what, consumer=self.source.name, reason=str(error) or type(error).__name__)

    async def _stop(self) -> None:
        with suppress(*UNREACHABLE):
            await self.source.stop()
