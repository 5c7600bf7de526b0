"""The settings of ingest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import RetentionDays


class IngestSettings(Settings):
    """Ingest: the size of its batches, and how long it keeps data."""

    ingest_batch_size: Annotated[int, Field(ge=1, le=5000)] = Field(
        500, description="Maximum number of webhooks that are stored in one transaction."
    )
    event_retention_days: RetentionDays = Field(
        0,
        description="Days that an event is kept after it was received. As long as it is kept, a "
        "duplicate of it is recognised. Some events are kept longer, by a day or by up to a "
        "thirtieth of this time. 0 keeps all events.",
    )
    audit_retention_days: RetentionDays = Field(
        0, description="Days that an entry of the audit trail is kept; 0 keeps all entries."
    )
