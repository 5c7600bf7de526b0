"""What time zones and conditions ask about a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hogsend.contract.base import Properties
from hogsend.contract.contacts import Contact


class PersonLookup(Protocol):
    """PostHog's persons."""

    async def properties(self, distinct_id: str) -> Properties:
        """Give a person's properties, empty when they are not known; never raises."""

    async def properties_of_all(
        self, distinct_ids: Sequence[str], *, seconds: float
    ) -> list[Properties]:
        """Give what `properties` would of each, as far as that is known within so many seconds."""


class ContactLookup(Protocol):
    """Hogsend's own contacts."""

    async def get(self, user_id: str) -> Contact:
        """Give what is known about a contact.

        Raises:
            Unavailable: ingest cannot be asked.
        """

    async def get_or_empty(self, user_id: str) -> Contact:
        """Give what is known about a contact; an empty one when ingest cannot be asked."""

    def fill_timezone(self, contact_key: str, timezone: str) -> None:
        """Give a contact without a time zone one, in the background."""
