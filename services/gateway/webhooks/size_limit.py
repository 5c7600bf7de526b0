"""How large a webhook may be: as `WEBHOOK_MAX_BYTES` says, unless the bus takes less (spec C7)."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.errors import TooLarge
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

HEADERS_BYTES = 4096
"""Room for the headers of a webhook in a NATS message."""
LOOK_EVERY_SECONDS = 1.0


class SizeLimit:
    """The size of a webhook that can become durable."""

    def __init__(self, bus: Connection, configured: int) -> None:
        """Take `configured` bytes until the bus has said that it takes less."""
        self._bus = bus
        self._configured = configured

    @property
    def bus_bytes(self) -> int | None:
        """Largest body the bus takes, when that is less than configured."""
        known = self._bus.last_max_payload
        if known is None or known - HEADERS_BYTES >= self._configured:
            return None
        return known - HEADERS_BYTES

    def check(self, body: bytes) -> None:
        """Refuse a body that the bus never takes; it would be accepted and set aside.

        Raises:
            TooLarge: it is larger; says what the limit is and where it is set.
        """
        if (limit := self.bus_bytes) is not None and len(body) > limit:
            raise TooLarge(
                f"the body is larger than {limit} bytes, which is what NATS takes: its max_payload "
                "is smaller than WEBHOOK_MAX_BYTES"
            )

    async def watch(self) -> None:
        """Say so in the log as soon as the bus is known, and whenever it is another one."""
        said: int | None = None
        while True:
            limit = self.bus_bytes
            if limit is not None and limit != said:
                log.warning(
                    "NATS takes smaller messages than WEBHOOK_MAX_BYTES allows: larger webhooks "
                    "are answered 413 and lost. Raise max_payload in nats-server's configuration.",
                    webhook_max_bytes=self._configured,
                    limit=limit,
                    needed_max_payload=self._configured + HEADERS_BYTES,
                )
            said = limit
            await asyncio.sleep(LOOK_EVERY_SECONDS)
