"""What can be set for the stack, and every group of settings there is.

The list stands here because the command line may import the library and every service; neither
the library nor a service may import all of them.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hogsend.service.setting_types import Port
from hogsend.service.settings import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PostHogSettings,
    PublicUrlSettings,
    Settings,
    TelemetrySettings,
)
from services.analytics.settings import AnalyticsSettings
from services.credentials.settings import SealingSettings
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.provisioner.settings import ProvisionerSettings


class StackSettings(Settings):
    """The stack `make up` starts."""

    hogsend_home: Path = Field(
        Path(".hogsend"), description="Directory for all data, generated secrets and logs."
    )
    nats_port: Port = Field(4222, description="Port of the NATS server `make up` starts.")


ALL_SETTINGS: tuple[type[Settings], ...] = (
    PostHogSettings,
    OutboundSettings,
    PublicUrlSettings,
    ProvisionerSettings,
    GatewaySettings,
    SealingSettings,
    DatabaseSettings,
    BusSettings,
    IngestSettings,
    AnalyticsSettings,
    TelemetrySettings,
    StackSettings,
)
"""In the order of the documents that list them."""
