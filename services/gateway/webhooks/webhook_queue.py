"""Makes each webhook durable before it is answered: in JetStream, or in the spool.

Normally a webhook is published to JetStream directly. A webhook that JetStream does not acknowledge
in time is written to the spool, and so are all later webhooks until the spool is empty.

Invariant: a webhook is answered 200 only after JetStream acknowledged it or the spool synced it.
Why: PostHog does not send a webhook again that was answered 200.
Without it: a crash would lose accepted events.

Invariant: while the spool is not empty, new webhooks are appended to the spool.
Why: the drain publishes the spool in order, and nothing overtakes it.
Without it: events would reach ingest out of order, and each request would wait for JetStream's
timeout during an outage.
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
"""Errors that mean that JetStream will never accept this webhook."""

NOT_NOW = (Unavailable, Forbidden)
"""Errors after which JetStream may accept it later: an operator can also fix permissions."""

DRAIN_BATCH = 256
DRAIN_BYTES = 8 * 1024 * 1024
"""Webhooks, and bytes, of the spool that are published at the same time."""
ADOPT_SECONDS = 5.0
"""Interval at which `SPOOL_DIR` is searched for files of processes that have ended."""
DRAIN_ACK_SECONDS = 5.0
"""Timeout for JetStream's acknowledgement of a spooled webhook."""
DRAIN_RETRY_SECONDS = 0.2
"""Pause between attempts to drain the spool while JetStream is unavailable."""


class WebhookQueue:
    """Accepts webhooks, and publishes spooled ones to JetStream."""

    def __init__(self, connection: Connection, spool: Spool | None, ack_timeout: float) -> None:
        """Prepare to publish, and to drain webhooks that an earlier process spooled.

        Args:
            connection: connection on which webhooks are published.
            spool: None turns the spool off; webhooks that JetStream does not accept are refused.
            ack_timeout: seconds in which JetStream must acknowledge a webhook; else it is spooled.
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
        """Whether NATS is connected, or there is a spool that works without it."""
        return self._connection.connected or self._spool is not None

    @property
    def is_full(self) -> bool:
        """Whether webhooks are answered 429: neither JetStream nor the spool accepts them."""
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
        # The drain publishes it later, outside of this request's trace, so it carries the trace.
        tracing.inject(webhook.headers)
        await self._spool.append(webhook)
        TO_SPOOL.inc()

    async def drain_forever(self) -> None:
        """Publish spooled webhooks to JetStream, oldest first, whenever there are any."""
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
        """Wait until the spool has webhooks, and meanwhile adopt files of processes that ended."""
        while not self._draining.is_set():
            try:
                async with asyncio.timeout(ADOPT_SECONDS):
                    await self._draining.wait()
            except TimeoutError:
                await spool.adopt()
                if spool.count:
                    self._draining.set()

    async def _drain(self, spool: Spool) -> bool:
        """Publish until the spool is empty. Return False if JetStream becomes unavailable."""
        # The connection is also checked if the spool is empty. With a full disk it stays empty, and
        # without the check webhooks would be sent to a JetStream that is known to be down.
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
            # Invariant: a webhook is removed from the spool only after JetStream stored it, or it
            # is set aside because JetStream will never accept it.
            # Why: the outcome is None exactly for an acknowledged publish.
            # Without it: a failed publish would lose an accepted webhook.
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
