"""The settings of ingest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import RetentionDays


class IngestSettings(Settings):
    """Ingest: the size of its batches, and how long it keeps data."""

    ingest_batch_size: Annotated[int, Field(ge=1, le=5000)] = Field(
        500, description="Most webhooks that are stored in one transaction."
    )
    event_retention_days: RetentionDays = Field(
        0,
        description="Days an event is kept after it was received, and recognised when it is sent "
        "again. Some are kept a little longer: up to a thirtieth of it, or a day. 0 is forever.",
    )
    audit_retention_days: RetentionDays = Field(
        0, description="Days an entry of the audit trail is kept; 0 is forever."
    )
