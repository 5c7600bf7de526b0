"""Listens to messages on NATS as they are published, beside the streams that keep them."""

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
from hogsend.transport.connection import UNREACHABLE, Connection, pending_bytes
from services.analytics.delivery.heard_writes import Heard, HeardWrites, may_change_a_person

log = structlog.get_logger(__name__)


class Listener:
    """Hands published messages to `HeardWrites`.

    Not a FastStream subscriber: each replica hears every captured event, nearly all of which change
    no person, and FastStream's frame costs as much for each as sending it.
    """

    def __init__(self, link: Connection, heard: HeardWrites) -> None:
        """Listen on `link`."""
        self._link = link
        self._heard = heard
        self._captures: Subscription | None = None
        self._subscribing = asyncio.Lock()
        link.on_reconnect(self._reconnected)
        heard.captures_from(self)

    async def listen(self) -> None:
        """Listen from now on, until the connection is closed."""
        for subject in self._heard.subjects:
            if subject != EVENT_CAPTURED.subject:
                await self._subscribe(subject)
        await self.listen_to_captures()
        self._heard.listens()

    @property
    def are_heard(self) -> bool:
        """Whether captured events are listened to."""
        return self._captures is not None

    async def listen_to_captures(self) -> None:
        """Hear captured events from now on."""
        # nats-py waits where much is left to send: a second subscription would stay for good.
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
            subject, cb=self._on_message, pending_bytes_limit=pending_bytes(client)
        )

    async def leave_captures(self) -> None:
        """Hear captured events no longer: they are read from their stream."""
        if self._captures is not None:
            left, self._captures = self._captures, None
            try:
                await left.unsubscribe()
            except UNREACHABLE as error:
                # The connection is closed, and the subscription with it.
                FAILURES.labels("listening", type(error).__name__).inc()
                log.warning("the subscription to captured events was lost", reason=str(error))

    async def last_captured(self) -> int | None:
        """Position of the last message in the stream of captured events, if NATS answers."""
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
        heard = Heard(message.subject, message.headers or {}, message.data, datetime.now(UTC))
        try:
            await self._heard.hear(heard)
        except Exception as error:
            # A defect. Reads are then as old as PostHog's answers, and nothing else is lost.
            FAILURES.labels("heard_write", type(error).__name__).inc()
            log.exception("a write to a person was not recorded", subject=message.subject)

    async def _reconnected(self) -> None:
        # nats-py subscribes again by itself; what was published meanwhile was not heard.
        self._heard.listens()
