"""Reads contacts from the ingest service, and fills in their time zones there."""

from __future__ import annotations

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
from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)


class Contacts:
    """`ContactLookup` over the ingest service."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    async def get(self, user_id: str) -> Contact:
        """Return a contact; an empty one when there is no such contact.

        Raises:
            Unavailable: ingest cannot be reached.
        """
        return await self._link.request(INGEST_CONTACT, ContactRef(user_id=user_id))

    async def get_or_empty(self, user_id: str) -> Contact:
        """Return a contact; an empty one when ingest cannot be reached."""
        try:
            return await self.get(user_id)
        except HogsendError as error:
            FAILURES.labels("contact", error.code).inc()
            log.warning("contact not read", reason=str(error))
            return Contact()

    def fill_timezone(self, contact_key: str, timezone: str) -> None:
        """Set the time zone of a contact that has none, in the background.

        After a failure, the next read of the same person's time zone tries again.
        """
        run_in_background(self._fill_timezone(contact_key, timezone))

    async def _fill_timezone(self, contact_key: str, timezone: str) -> None:
        request = FillTimezone(user_id=contact_key, timezone=timezone)
        try:
            await self._link.request(INGEST_FILL_TIMEZONE, request)
        except HogsendError as error:
            FAILURES.labels("fill_timezone", error.code).inc()
            log.warning("time zone not written to the contact", reason=str(error))
