"""What ingest knows about a contact."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.contacts import (
    INGEST_CONTACT,
    INGEST_FILL_TIMEZONE,
    Contact,
    ContactRef,
    FillTimezone,
)
from hogsend.contract.errors import HogsendError
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)


class Contacts:
    """Asks ingest."""

    def __init__(self, bus: Connection) -> None:
        """Ask on `bus`."""
        self._bus = bus
        self._writing: set[asyncio.Task[None]] = set()

    async def get(self, user_id: str) -> Contact:
        """What is known about a contact.

        Raises:
            Unavailable: ingest is away.
        """
        return await self._bus.request(INGEST_CONTACT, ContactRef(user_id=user_id))

    async def get_or_nothing(self, user_id: str) -> Contact:
        """What is known about a contact; an empty one when ingest is away."""
        try:
            return await self.get(user_id)
        except HogsendError as error:
            FAILURES.labels("contact", error.code).inc()
            log.warning("contact not read", reason=str(error))
            return Contact()

    def fill_timezone(self, contact_key: str, timezone: str) -> None:
        """Give a contact a time zone, in nobody's way; a later read does it again if it fails."""
        writing = asyncio.create_task(self._fill_timezone(contact_key, timezone))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _fill_timezone(self, contact_key: str, timezone: str) -> None:
        found = FillTimezone(user_id=contact_key, timezone=timezone)
        try:
            await self._bus.request(INGEST_FILL_TIMEZONE, found)
        except HogsendError as error:
            FAILURES.labels("fill_timezone", error.code).inc()
            log.warning("time zone not written to the contact", reason=str(error))
