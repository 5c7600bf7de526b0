"""One replica's share of one partition: asks for it, consumes it in order, and releases it."""

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
"""Processes messages; they are acknowledged or given back when it returns."""


class Partition:
    """Consumes a partition whenever it may: one batch at a time, the next when it is settled."""

    def __init__(
        self, source: PinnedConsumer, consume: Consume, turns: asyncio.Semaphore, *, batch: int
    ) -> None:
        """Prepare without asking.

        Args:
            source: the partition's consumer.
            consume: processes a batch.
            turns: as many batches as the replica processes at a time.
            batch: most messages of one.
        """
        self.source = source
        self.overlaps = False
        """Whether there are consumers of another number of partitions, which get its webhooks."""
        self._consume = consume
        self._turns = turns
        self._batch = batch
        self._wanted = asyncio.Event()
        self._leaving = False

    @property
    def held(self) -> bool:
        """Whether this replica consumes it."""
        return self.source.is_pinned

    def want(self, wanted: bool) -> None:
        """Ask for it while no other replica has it, or stop asking; what is held stays held."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    def let_go(self) -> None:
        """Leave it to another replica as soon as what is in hand is settled."""
        self._leaving = True
        self._wanted.clear()

    async def run(self) -> None:
        """Consume until cancelled; then another replica goes on at once."""
        try:
            while True:
                if not self.held:
                    self._leaving = False
                    await self._wanted.wait()
                try:
                    if self._leaving:
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
                    # What was given and is not settled comes to the next reader, who may be we.
                    self._not_now("a partition is not read", error)
                    self.source.failures.record(error)
                    await self._stop()
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            with suppress(*UNREACHABLE):
                await self.source.unpin()
            await self._stop()

    async def _process(self, messages: list[Msg]) -> None:
        async with self._kept(), self._turns:
            messages += await self.source.fetch_more(self._batch - len(messages))
            await self._consume(messages)

    @asynccontextmanager
    async def _kept(self) -> AsyncIterator[None]:
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            await cancel_all(keeping)

    async def _keep(self) -> None:
        """Stay the reader, however long a batch takes, for example without PostgreSQL."""
        while True:
            await asyncio.sleep(self.source.pin_seconds / EXTENSIONS_PER_PIN)
            try:
                await self.source.extend_pin()
            except UNREACHABLE as error:
                self._not_now("a partition may go to another reader", error)

    def _not_now(self, what: str, error: Exception) -> None:
        FAILURES.labels("partitions", type(error).__name__).inc()
        log.debug(what, consumer=self.source.name, reason=str(error) or type(error).__name__)

    async def _stop(self) -> None:
        with suppress(*UNREACHABLE):
            await self.source.stop()
