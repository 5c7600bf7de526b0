"""Contacts, as ingest knows them."""

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
    """Asks ingest."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    async def get(self, user_id: str) -> Contact:
        """Give what is known about a contact.

        Raises:
            Unavailable: ingest cannot be asked.
        """
        return await self._link.request(INGEST_CONTACT, ContactRef(user_id=user_id))

    async def get_or_empty(self, user_id: str) -> Contact:
        """Give what is known about a contact; an empty one when ingest cannot be asked."""
        try:
            return await self.get(user_id)
        except HogsendError as error:
            FAILURES.labels("contact", error.code).inc()
            log.warning("contact not read", reason=str(error))
            return Contact()

    def fill_timezone(self, contact_key: str, timezone: str) -> None:
        """Give a contact without a time zone one, in the background.

        When it fails, the next read of the same person tries again.
        """
        run_in_background(self._fill_timezone(contact_key, timezone))

    async def _fill_timezone(self, contact_key: str, timezone: str) -> None:
        found = FillTimezone(user_id=contact_key, timezone=timezone)
        try:
            await self._link.request(INGEST_FILL_TIMEZONE, found)
        except HogsendError as error:
            FAILURES.labels("fill_timezone", error.code).inc()
            log.warning("time zone not written to the contact", reason=str(error))
