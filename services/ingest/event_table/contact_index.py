"""The index that finds the events of one person in the table from before there were partitions.

Migration 0015 makes it where there are few; partitions are made with theirs.
"""

from __future__ import annotations

from hogsend.service.background_index import BackgroundIndex
from hogsend.service.database import Database
from services.ingest.event_table.partitions import UNPARTITIONED


def contact_index(database: Database) -> BackgroundIndex:
    """Describe it as the migration does."""
    return BackgroundIndex(
        database, name="events_of_contact", table=UNPARTITIONED, columns="contact_id"
    )
