"""The settings of the stack, and the list of all groups of settings.

The list is here because only the command line may import all services; the library and a service
may not.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from hogsend.service.settings.base import Settings
from hogsend.service.settings.problems import describe_problems
from hogsend.service.settings.shared import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PartitionSettings,
    PostHogSettings,
    PublicUrlSettings,
    TelemetrySettings,
)
from hogsend.service.settings.types import FilePath, Port
from services.analytics.settings import AnalyticsSettings
from services.credentials.settings import SealingSettings
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.provisioner.settings import ProvisionerSettings


class StackSettings(Settings):
    """The stack `make up` starts."""

    hogsend_home: FilePath = Field(
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
    PartitionSettings,
    IngestSettings,
    AnalyticsSettings,
    TelemetrySettings,
    StackSettings,
)
"""All groups of settings, in the order of the documents that list them."""

GENERATED = frozenset({"BETTER_AUTH_SECRET", "DATABASE_URL"})
"""Settings that a service requires and `hogsend up` generates if they are missing."""


def problems() -> list[str]:
    """Return the problems of all settings in the environment, one line for each setting.

    They are checked before the start: a service with an invalid setting would be restarted again
    and again, with the reason in its log only.
    """
    invalid: list[str] = []
    for group in ALL_SETTINGS:
        try:
            group()
        except ValidationError as error:
            missing = {
                str(one["loc"][0]).upper()
                for one in error.errors(include_input=False, include_url=False)
                if one["type"] == "missing"
            }
            lines = describe_problems(error)
            invalid += [line for line in lines if line.partition(":")[0] not in missing & GENERATED]
    return invalid
