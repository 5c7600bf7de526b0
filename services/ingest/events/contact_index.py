"""The index that finds the events of one person; migration 0015 makes it where there are few."""

from __future__ import annotations

from hogsend.service.background_index import BackgroundIndex
from hogsend.service.database import Database


def contact_index(database: Database) -> BackgroundIndex:
    """Describe it as the migration does."""
    return BackgroundIndex(database, name="events_of_contact", table="events", columns="contact_id")
