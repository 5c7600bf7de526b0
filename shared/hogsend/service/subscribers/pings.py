"""A FastStream subscriber for pings, which keeps replying while requests are in progress."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from faststream.nats.subscriber.usecases import CoreSubscriber
from nats.aio.msg import Msg

from hogsend.service.subscribers.internals import subscriber_parts
from hogsend.service.subscribers.requests import DRAIN_SECONDS
from hogsend.transport.pending_bytes import pending_bytes_limit

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig

STOP_SECONDS = DRAIN_SECONDS - 1
"""How long a stopping service replies to pings about its requests in progress."""


class PingSubscriber(CoreSubscriber):
    """Receives the pings of all callers. A stopping service only processes those about requests."""

    def __init__(self, subject: str, broker_config: NatsBrokerConfig) -> None:
        """Subscribe to `subject` without a queue group: every replica receives every ping."""
        super().__init__(*subscriber_parts(subject, "", broker_config), queue="")
        self.is_stopping = False

    async def stop(self) -> None:
        """Wait up to `STOP_SECONDS` for the last requests, and unsubscribe.

        Their callers ping while they wait. Without a reply they would take the service for frozen,
        and give up.
        """
        self.is_stopping = True
        requests: set[asyncio.Task[Any]] = self._outer_config.extra_context["broker"].requests
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while requests:
                    await asyncio.wait(requests)
        await super().stop()

    async def _create_subscription(self) -> None:
        if self.subscription is None:
            self.subscription = await self.connection.subscribe(
                self.subject.broker_address,
                cb=self.consume,
                pending_bytes_limit=pending_bytes_limit(self.connection),
            )

    async def consume(self, msg: Msg) -> Any:
        """Process a ping, unless it asks for the replicas that will take further requests."""
        if self.is_stopping and not msg.data:
            return None
        return await super().consume(msg)
