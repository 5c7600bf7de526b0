"""The environment of each service: its own settings, without the secrets of other services."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cli.stack.settings import ALL_SETTINGS
from hogsend.service.settings.base import Settings
from hogsend.service.settings.names import PROXIES
from hogsend.service.settings.shared import (
    BusSettings,
    DatabaseSettings,
    OutboundSettings,
    PartitionSettings,
    PostHogSettings,
    PublicUrlSettings,
    TelemetrySettings,
)
from services.analytics.settings import AnalyticsSettings
from services.credentials.settings import SealingSettings
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.provisioner.settings import ProvisionerSettings

SERVICE_SETTINGS: dict[str, tuple[type[Settings], ...]] = {
    "gateway": (
        GatewaySettings,
        PublicUrlSettings,
        PostHogSettings,
        OutboundSettings,
        BusSettings,
        PartitionSettings,
        TelemetrySettings,
    ),
    "provisioner": (
        ProvisionerSettings,
        PublicUrlSettings,
        PostHogSettings,
        OutboundSettings,
        DatabaseSettings,
        BusSettings,
        TelemetrySettings,
    ),
    "analytics": (
        AnalyticsSettings,
        PostHogSettings,
        OutboundSettings,
        DatabaseSettings,
        BusSettings,
        TelemetrySettings,
    ),
    "credentials": (
        SealingSettings,
        PostHogSettings,
        OutboundSettings,
        DatabaseSettings,
        BusSettings,
        TelemetrySettings,
    ),
    "ingest": (
        IngestSettings,
        PartitionSettings,
        DatabaseSettings,
        BusSettings,
        TelemetrySettings,
    ),
}
"""The settings that each service reads. `hogsend up` starts the services in reverse order."""

SECRETS_WITHHELD: dict[str, frozenset[str]] = {
    "credentials": frozenset(
        {"POSTHOG_WEBHOOK_SECRET", "POSTHOG_SIGNING_SECRET", "POSTHOG_API_KEY"}
    ),
    # It requests bearer tokens from the credentials service, which decides when to use this key.
    "provisioner": frozenset({"POSTHOG_PERSONAL_API_KEY"}),
    "analytics": frozenset(
        {"POSTHOG_PERSONAL_API_KEY", "POSTHOG_WEBHOOK_SECRET", "POSTHOG_SIGNING_SECRET"}
    ),
}
"""Secrets among the settings of a service that it does not need."""


def environment_for(service: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a service: this process's, without settings of other services.

    Args:
        service: name of the service.
        defaults: values of variables that are not set.
    """
    all_settings = {name for group in ALL_SETTINGS for name in group.environment_names()}
    own = {name for group in SERVICE_SETTINGS[service] for name in group.environment_names()}
    # Every service gets the proxies, which the exporter of traces reads too.
    own = own - SECRETS_WITHHELD.get(service, frozenset()) | PROXIES
    variables = {**defaults, **{name: value for name, value in os.environ.items() if value}}
    return {
        name: value for name, value in variables.items() if name in own or name not in all_settings
    }


def minimal_environment() -> dict[str, str]:
    """Return the environment of a program that reads no settings from it."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
    return {name: os.environ[name] for name in names if name in os.environ}
