"""What each service is told: its own settings, and nobody else's secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cli.stack.settings import ALL_SETTINGS
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

READS: dict[str, tuple[type[Settings], ...]] = {
    "gateway": (
        GatewaySettings,
        PublicUrlSettings,
        PostHogSettings,
        BusSettings,
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
    "ingest": (IngestSettings, DatabaseSettings, BusSettings, TelemetrySettings),
}
"""Settings each service reads, in the order `hogsend up` starts them backwards."""

WITHHELD: dict[str, frozenset[str]] = {
    "credentials": frozenset({"POSTHOG_WEBHOOK_SECRET", "POSTHOG_API_KEY"}),
    # It asks the credentials service for a bearer, which knows when this one is due.
    "provisioner": frozenset({"POSTHOG_PERSONAL_API_KEY"}),
    "analytics": frozenset({"POSTHOG_PERSONAL_API_KEY", "POSTHOG_WEBHOOK_SECRET"}),
}
"""Secrets among those settings that the service has no use for."""


def environment_for(service: str, given: Mapping[str, str]) -> dict[str, str]:
    """Environment of one service: this process's, with `given` for what is not set.

    Settings that the service does not read are left out.
    """
    everything = {name for group in ALL_SETTINGS for name in group.environment_names()}
    own = {name for group in READS[service] for name in group.environment_names()}
    own -= WITHHELD.get(service, frozenset())
    wanted = {**given, **{name: value for name, value in os.environ.items() if value}}
    return {name: value for name, value in wanted.items() if name in own or name not in everything}


def nothing_but_path() -> dict[str, str]:
    """Environment of a server that takes no settings from it."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}
