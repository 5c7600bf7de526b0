"""Makes each webhook durable before it is answered: in JetStream, or in the spool.

Normally a webhook goes straight to JetStream. One that is not acknowledged in time goes to the
spool, and so does every later one until the spool is empty. That keeps their order, and no request
waits for a JetStream that does not answer.
"""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import Counter

from hogsend.contract.errors import (
    Forbidden,
    HogsendError,
    PublishRejected,
    SpoolFull,
    TooLarge,
    Unavailable,
)
from hogsend.service import metrics, tracing
from hogsend.transport.connection import Connection
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.spool import Spool

log = structlog.get_logger(__name__)

ACCEPTED = Counter(
    "hogsend_webhooks_accepted", "Webhooks answered 200, by where they were stored", ["to"]
)
TO_JETSTREAM = ACCEPTED.labels("jetstream")
TO_SPOOL = ACCEPTED.labels("spool")

REFUSED = (TooLarge, PublishRejected)
"""Errors after which JetStream will never accept that webhook."""

NOT_NOW = (Unavailable, Forbidden)
"""Errors after which it may accept it later; permissions are an operator's to mend."""

DRAIN_BATCH = 256
DRAIN_BYTES = 8 * 1024 * 1024
"""How much of the spool is in memory, and on its way to JetStream, at once."""
ADOPT_SECONDS = 5.0
"""How often the spool is looked through for what an ended process left."""
DRAIN_ACK_SECONDS = 5.0
DRAIN_RETRY_SECONDS = 0.2


class WebhookQueue:
    """Accepts webhooks, and drains the spool."""

    def __init__(self, connection: Connection, spool: Spool | None, ack_timeout: float) -> None:
        """Prepare to publish and, with a spool, to drain what an earlier process left in it.

        Args:
            connection: where webhooks are published.
            spool: None turns it off; a webhook that JetStream does not accept is then refused.
            ack_timeout: seconds JetStream may take before a webhook is spooled.
        """
        self._connection = connection
        self._publisher = connection.publisher
        self._spool = spool
        self._ack_timeout = ack_timeout
        self._draining = asyncio.Event()
        if spool is not None and spool.count:
            self._draining.set()

    @property
    def can_accept(self) -> bool:
        """Whether there is a connection, or a spool to do without one."""
        return self._connection.connected or self._spool is not None

    @property
    def is_full(self) -> bool:
        """Whether neither JetStream nor the spool takes webhooks: they are answered 429."""
        return self.spooling and self._spool is not None and self._spool.is_full

    @property
    def waiting(self) -> int:
        """Webhooks in the spool."""
        return self._spool.count if self._spool is not None else 0

    @property
    def refused(self) -> int:
        """Webhooks in the spool that JetStream refuses, or that cannot be decoded."""
        return self._spool.refused_count if self._spool is not None else 0

    @property
    def files_aside(self) -> int:
        """Files of the spool that are damaged or may not be opened."""
        return self._spool.files_aside if self._spool is not None else 0

    @property
    def spooling(self) -> bool:
        """Whether webhooks go to the spool, because JetStream does not accept them."""
        return self._draining.is_set()

    async def accept(self, webhook: QueuedWebhook) -> None:
        """Make a webhook durable.

        Raises:
            SpoolFull: neither JetStream nor the spool accepts it.
        """
        if not self._draining.is_set():
            try:
                await self._publisher.publish(webhook.message, within=self._ack_timeout)
            except (*NOT_NOW, *REFUSED) as error:
                self._start_spooling(error)
            else:
                TO_JETSTREAM.inc()
                return
        if self._spool is None:
            raise SpoolFull("JetStream is unavailable and the spool is turned off")
        # It is published later and by a task of its own, outside of the request's trace.
        tracing.inject(webhook.headers)
        await self._spool.append(webhook)
        TO_SPOOL.inc()

    async def drain_forever(self) -> None:
        """Move spooled webhooks to JetStream, oldest first, whenever there are any."""
        if self._spool is None:
            return
        while True:
            await self._wait_for_work(self._spool)
            if await self._drain(self._spool):
                self._draining.clear()
                log.info("spool drained; webhooks go to JetStream again")
            else:
                await asyncio.sleep(DRAIN_RETRY_SECONDS)

    async def _wait_for_work(self, spool: Spool) -> None:
        while not self._draining.is_set():
            try:
                async with asyncio.timeout(ADOPT_SECONDS):
                    await self._draining.wait()
            except TimeoutError:
                await spool.adopt()
                if spool.count:
                    self._draining.set()

    async def _drain(self, spool: Spool) -> bool:
        """Publish until the spool is empty; False while JetStream is unavailable."""
        # Asked of an empty spool, too: one whose disk is full stays empty while NATS is down.
        while self._connection.connected:
            if not spool.count:
                return True
            batch = await spool.head(DRAIN_BATCH, DRAIN_BYTES)
            outcomes = await asyncio.gather(
                *(
                    self._publisher.publish(item.webhook.message, within=DRAIN_ACK_SECONDS)
                    for item in batch
                ),
                return_exceptions=True,
            )
            results = list(zip(batch, outcomes, strict=True))
            await spool.remove([item for item, outcome in results if outcome is None])
            for item, outcome in results:
                if isinstance(outcome, REFUSED):
                    await spool.set_aside(item, str(outcome))
                elif isinstance(outcome, BaseException) and not isinstance(outcome, HogsendError):
                    raise outcome
            if any(isinstance(outcome, NOT_NOW) for outcome in outcomes):
                return False
        return False

    def _start_spooling(self, error: Exception) -> None:
        metrics.FAILURES.labels("intake", type(error).__name__).inc()
        if self._spool is not None and not self._draining.is_set():
            log.warning("webhooks go to the spool until JetStream accepts them", reason=str(error))
            self._draining.set()
