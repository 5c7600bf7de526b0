"""The environment of each service: its own settings, and no other service's secrets."""

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
"""Settings each service reads. `hogsend up` starts the services in reverse order."""

SECRETS_WITHHELD: dict[str, frozenset[str]] = {
    "credentials": frozenset(
        {"POSTHOG_WEBHOOK_SECRET", "POSTHOG_SIGNING_SECRET", "POSTHOG_API_KEY"}
    ),
    # It asks the credentials service for a bearer, which decides when this key is used.
    "provisioner": frozenset({"POSTHOG_PERSONAL_API_KEY"}),
    "analytics": frozenset(
        {"POSTHOG_PERSONAL_API_KEY", "POSTHOG_WEBHOOK_SECRET", "POSTHOG_SIGNING_SECRET"}
    ),
}
"""Secrets among those settings that a service does not need."""


def environment_for(service: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """Environment of one service: this process's, with `defaults` for what is not set.

    Settings that the service does not read are left out.
    """
    everything = {name for group in ALL_SETTINGS for name in group.environment_names()}
    own = {name for group in SERVICE_SETTINGS[service] for name in group.environment_names()}
    # Proxies are everybody's: what exports traces reads them, too.
    own = own - SECRETS_WITHHELD.get(service, frozenset()) | PROXIES
    wanted = {**defaults, **{name: value for name, value in os.environ.items() if value}}
    return {name: value for name, value in wanted.items() if name in own or name not in everything}


def minimal_environment() -> dict[str, str]:
    """Environment of a program that takes no settings from it."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}
