"""The index on the contact in the table of events from before partitions existed.

Migration 0015 creates it if the table is small. Partitions are created with an index of their own.
"""

from __future__ import annotations

from hogsend.service.background_index import BackgroundIndex
from hogsend.service.database import Database
from services.ingest.event_table.partitions import UNPARTITIONED


def contact_index(database: Database) -> BackgroundIndex:
    """Return the index, as in the migration."""
    return BackgroundIndex(
        database, name="events_of_contact", table=UNPARTITIONED, columns="contact_id"
    )
