"""The consume loop: pull a batch, hold on to it while it is worked on, give it back at a stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.service.metrics import FAILURES
from hogsend.service.serving import stop
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from services.ingest import metrics

log = structlog.get_logger(__name__)

IN_PROGRESS_SECONDS = 10.0
"""How often JetStream hears that a batch is still worked on; well below the consumer's ack wait."""

LATER_SECONDS = 30.0
"""A message that failed for an unknown reason comes back after this long."""

STOPPED_SECONDS = 1.0
"""What is given back at a stop comes back after this long; sooner, our own open pull gets it."""

FLUSH_SECONDS = 2
CONNECTED_POLL_SECONDS = 0.2

Take = Callable[[Sequence[Msg]], Awaitable[None]]


async def consume_forever(
    bus: Connection,
    take: Take,
    *,
    batch_size: int,
    workers: int,
    stream: StreamName = StreamName.WEBHOOKS,
    consumer: ConsumerConfig = INGEST_CONSUMER,
) -> None:
    """Pull batches and `take` them, `workers` at a time, until cancelled."""
    # Subscribing before the first connection would use an inbox this user may not read.
    while not bus.connected:  # noqa: ASYNC110  nats-py has no event for it
        await asyncio.sleep(CONNECTED_POLL_SECONDS)
    tasks = [
        asyncio.create_task(_consume(bus, take, stream, consumer, batch_size))
        for _ in range(workers)
    ]
    try:
        # Not a task group: that passes on a cancellation only once, and nats-py may swallow it.
        await asyncio.gather(*tasks)
    except Exception:
        await stop(*tasks)
        raise


async def _consume(
    bus: Connection, take: Take, stream: StreamName, consumer: ConsumerConfig, batch_size: int
) -> None:
    async for messages in Consumer(bus, stream, consumer, batch=batch_size).batches():
        started = time.perf_counter()
        metrics.BATCH_SIZE.observe(len(messages))
        metrics.LAG.labels(stream).set(messages[-1].metadata.num_pending)
        async with _held(bus, messages):
            await _take_all(bus, take, messages)
        metrics.BATCH_SECONDS.observe(time.perf_counter() - started)


async def _take_all(bus: Connection, take: Take, messages: Sequence[Msg]) -> None:
    try:
        await take(messages)
    except Exception as error:
        # Nobody foresaw this: find the message at fault, so that it cannot stop the others.
        FAILURES.labels("batch", type(error).__name__).inc()
        log.exception("batch failed, taking its messages one by one", messages=len(messages))
        for message in messages:
            if not message.is_acked:
                await _take_one(bus, take, message)


async def _take_one(bus: Connection, take: Take, message: Msg) -> None:
    try:
        await take([message])
    except Exception as error:
        FAILURES.labels("message", type(error).__name__).inc()
        log.exception("message failed, comes back later", seq=message.metadata.sequence.stream)
        if not message.is_acked:
            await _give_back(bus, [message], delay=LATER_SECONDS)


@asynccontextmanager
async def _held(bus: Connection, messages: Sequence[Msg]) -> AsyncIterator[None]:
    """Keep JetStream from redelivering `messages` meanwhile; give back what is left over."""
    beat = asyncio.create_task(_beat(messages))
    try:
        yield
    finally:
        beat.cancel()
        if left := [message for message in messages if not message.is_acked]:
            await _give_back(bus, left, delay=STOPPED_SECONDS)


async def _beat(messages: Sequence[Msg]) -> None:
    while True:
        await asyncio.sleep(IN_PROGRESS_SECONDS)
        try:
            for message in messages:
                if not message.is_acked:
                    await message.in_progress()
        except (nats.errors.Error, OSError) as error:
            # JetStream may redeliver then, which is harmless.
            FAILURES.labels("in_progress", type(error).__name__).inc()
            log.warning("could not tell JetStream that a batch is in progress")


async def _give_back(bus: Connection, messages: Sequence[Msg], delay: float | None = None) -> None:
    try:
        for message in messages:
            await message.nak(delay)
        await bus.flush(FLUSH_SECONDS)
    except (nats.errors.Error, TimeoutError, OSError) as error:
        FAILURES.labels("give_back", type(error).__name__).inc()
        log.warning("could not give a batch back, it comes back later", reason=str(error))
    else:
        metrics.NAKS.inc(len(messages))
        log.info("gave a batch back", messages=len(messages))
