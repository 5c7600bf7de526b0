"""Listens to messages on NATS as they are published, beside the streams that keep them."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from nats.aio.msg import Msg

from hogsend.service.metrics import FAILURES
from hogsend.service.requester import is_delivered
from hogsend.transport.connection import Connection
from services.analytics.delivery.heard_writes import Heard, HeardWrites

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
        link.on_reconnect(self._reconnected)

    async def listen(self) -> None:
        """Listen from now on, until the connection is closed."""
        for subject in self._heard.subjects:
            await self._link.client.subscribe(subject, cb=self._on_message)
        self._heard.listens()

    async def _on_message(self, message: Msg) -> None:
        if is_delivered(message):
            return
        heard = Heard(message.subject, message.headers or {}, message.data, datetime.now(UTC))
        try:
            await self._heard.hear(heard)
        except Exception as error:
            # A defect. Reads are then as old as PostHog's answers, and nothing else is lost.
            FAILURES.labels("heard_write", type(error).__name__).inc()
            log.exception("a write to a person was not noted", subject=message.subject)

    async def _reconnected(self) -> None:
        # nats-py subscribes again by itself; what was published meanwhile was not heard.
        self._heard.listens()
