"""What can be set for ingest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hogsend.service.settings import Settings


class IngestSettings(Settings):
    """Ingest: how much it takes at a time."""

    ingest_batch_size: Annotated[int, Field(ge=1, le=5000)] = Field(
        500, description="Webhooks stored in one transaction at most."
    )
