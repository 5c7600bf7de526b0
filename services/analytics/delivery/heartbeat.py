"""Keeps the messages in memory from being delivered to another replica, and gives them back."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.ordered_queue import OrderedQueue
from services.analytics.delivery.streams import Consumer, DeliveryMessage

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 3.0
"""How often the broker hears that messages are still worked on; well below the ack wait."""
NAK_DELAY_SECONDS = 1.0
"""Messages given back come again after so long; sooner, this process's own pull would get them."""
FLUSH_SECONDS = 2


async def keep_in_progress(queue: OrderedQueue[DeliveryMessage]) -> None:
    """Restart the ack wait of every queued message every `HEARTBEAT_SECONDS`; never ends."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        try:
            for entry in list(queue):
                await entry.origin.in_progress()
        except Unavailable as error:
            # A message that is delivered again meanwhile replaces the one in its entry.
            FAILURES.labels("in_progress", error.code).inc()
            log.warning("ack waits not restarted", reason=str(error))


async def nak_all(queue: OrderedQueue[DeliveryMessage], consumer: Consumer) -> None:
    """Give every queued message back to the broker, for the next leader."""
    if not len(queue):
        return
    try:
        for entry in queue:
            await entry.origin.nak(NAK_DELAY_SECONDS)
        await consumer.flush(FLUSH_SECONDS)
    except Unavailable as error:
        FAILURES.labels("nak", error.code).inc()
        log.warning("messages not given back, they return after the ack wait", reason=str(error))
