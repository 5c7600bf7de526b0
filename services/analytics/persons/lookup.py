"""Interfaces through which time zones and conditions read persons and contacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hogsend.contract.base import Properties
from hogsend.contract.contacts import Contact


class PersonLookup(Protocol):
    """PostHog's persons."""

    async def properties(self, distinct_id: str) -> Properties:
        """Return a person's properties, empty when they are not known; never raises."""

    async def properties_of_all(
        self, distinct_ids: Sequence[str], *, seconds: float
    ) -> list[Properties]:
        """Return the properties of each person; empty where unknown after `seconds` in all."""


class ContactLookup(Protocol):
    """Hogsend's own contacts."""

    async def get(self, user_id: str) -> Contact:
        """Return a contact; an empty one when there is no such contact.

        Raises:
            Unavailable: ingest cannot be reached.
        """

    async def get_or_empty(self, user_id: str) -> Contact:
        """Return a contact; an empty one when ingest cannot be reached."""

    def fill_timezone(self, contact_key: str, timezone: str) -> None:
        """Set the time zone of a contact that has none, in the background."""
