"""Subscribes to the subjects of person writes with core NATS, in addition to their streams."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hogsend.contract.persons import EVENT_CAPTURED
from hogsend.contract.streams import StreamName
from hogsend.service.metrics import FAILURES
from hogsend.service.requester import is_delivered
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.pending_bytes import pending_bytes_limit
from services.analytics.delivery.write_recorder import (
    PublishedMessage,
    WriteRecorder,
    may_change_a_person,
)

log = structlog.get_logger(__name__)


class WriteListener:
    """Passes published messages to a `WriteRecorder`.

    Not a FastStream subscriber: each replica receives every captured event, nearly all of which
    change no person. FastStream's overhead for each message is as large as the cost of sending it.
    """

    def __init__(self, link: Connection, recorder: WriteRecorder) -> None:
        """Subscribe over `link`."""
        self._link = link
        self._recorder = recorder
        self._captures: Subscription | None = None
        self._subscribing = asyncio.Lock()
        link.on_reconnect(self._reconnected)
        recorder.use_captures(self)

    async def listen(self) -> None:
        """Subscribe to all writes; the subscriptions last until the connection is closed."""
        for subject in self._recorder.subjects:
            if subject != EVENT_CAPTURED.subject:
                await self._subscribe(subject)
        await self.subscribe_to_captures()
        self._recorder.mark_subscribed()

    @property
    def receives_captures(self) -> bool:
        """Whether this replica is subscribed to captured events."""
        return self._captures is not None

    async def subscribe_to_captures(self) -> None:
        """Receive captured events from now on; no effect while subscribed."""
        # nats-py's subscribe waits while its send buffer is full. Without the lock a second call
        # would subscribe meanwhile, and the first subscription could never be ended.
        async with self._subscribing:
            if self._captures is not None:
                return
            try:
                self._captures = await self._subscribe(EVENT_CAPTURED.subject)
            except UNREACHABLE as error:
                FAILURES.labels("listening", type(error).__name__).inc()
                log.warning("cannot subscribe to captured events", reason=str(error))

    async def _subscribe(self, subject: str) -> Subscription:
        client = self._link.client
        return await client.subscribe(
            subject, cb=self._on_message, pending_bytes_limit=pending_bytes_limit(client)
        )

    async def unsubscribe_from_captures(self) -> None:
        """Receive no more captured events: this replica reads them from their stream."""
        if self._captures is not None:
            captures, self._captures = self._captures, None
            try:
                await captures.unsubscribe()
            except UNREACHABLE as error:
                # The connection is closed, and the subscription with it.
                FAILURES.labels("listening", type(error).__name__).inc()
                log.warning("the subscription to captured events was lost", reason=str(error))

    async def last_capture_position(self) -> int | None:
        """Sequence of the last message in the stream of captured events; None when unknown."""
        if not self._link.connected:
            return None
        try:
            return (await self._link.js.stream_info(StreamName.PERSONS)).state.last_seq
        except UNREACHABLE as error:
            FAILURES.labels("listening", type(error).__name__).inc()
            log.warning("the latest captures are not known", reason=str(error))
            return None

    async def _on_message(self, message: Msg) -> None:
        if is_delivered(message) or not may_change_a_person(message.subject, message.data):
            return
        published = PublishedMessage(
            message.subject, message.headers or {}, message.data, datetime.now(UTC)
        )
        try:
            await self._recorder.record(published)
        except Exception as error:
            # A defect. Reads then return PostHog's properties without this write; the write itself
            # is still sent.
            FAILURES.labels("heard_write", type(error).__name__).inc()
            log.exception("a write to a person was not recorded", subject=message.subject)

    async def _reconnected(self) -> None:
        # nats-py subscribes again by itself, but messages published meanwhile were not received.
        self._recorder.mark_subscribed()
