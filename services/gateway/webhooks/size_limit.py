"""The size limit of webhooks: `WEBHOOK_MAX_BYTES`, or less if NATS accepts less (spec C7)."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.errors import TooLarge
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

HEADERS_BYTES = 4096
"""Bytes reserved for the headers of a webhook's NATS message."""
CHECK_SECONDS = 1.0


class SizeLimit:
    """The largest webhook that can be published to NATS."""

    def __init__(self, bus: Connection, configured: int) -> None:
        """Allow `configured` bytes, or less once NATS has reported a smaller `max_payload`."""
        self._bus = bus
        self._configured = configured

    @property
    def bus_bytes(self) -> int | None:
        """Largest body that NATS accepts, in bytes; None if that is not less than configured."""
        max_payload = self._bus.last_max_payload
        if max_payload is None or max_payload - HEADERS_BYTES >= self._configured:
            return None
        return max_payload - HEADERS_BYTES

    def check(self, body: bytes) -> None:
        """Refuse a body that NATS can never accept. Otherwise it would be spooled and set aside.

        Raises:
            TooLarge: the body is too large; the message has the limit and how to raise it.
        """
        if (limit := self.bus_bytes) is not None and len(body) > limit:
            raise TooLarge(
                f"the body is larger than {limit} bytes, which is what NATS takes: its max_payload "
                "is smaller than WEBHOOK_MAX_BYTES"
            )

    async def watch(self) -> None:
        """Log when NATS accepts less than configured, and again whenever its limit changes."""
        logged: int | None = None
        while True:
            limit = self.bus_bytes
            if limit is not None and limit != logged:
                log.warning(
                    "NATS takes smaller messages than WEBHOOK_MAX_BYTES allows: larger webhooks "
                    "are answered 413 and lost. Raise max_payload in nats-server's configuration.",
                    webhook_max_bytes=self._configured,
                    limit=limit,
                    needed_max_payload=self._configured + HEADERS_BYTES,
                )
            logged = limit
            await asyncio.sleep(CHECK_SECONDS)
