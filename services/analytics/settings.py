"""Settings of the analytics service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from hogsend.contract.timezones import find_timezone
from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import CommaSeparated, RetentionDays

_YEAR_MS = 365 * 24 * 60 * 60 * 1000


class AnalyticsSettings(Settings):
    """Analytics: person reads, and what flows back into PostHog."""

    default_timezone: str = Field(
        "UTC", description="IANA time zone of people whose own is not known."
    )
    enable_posthog_destination: bool = Field(
        default=False,
        description="Whether a PostHog destination for the email funnel and contact changes is "
        "created automatically, given a project key.",
    )
    analytics_event_mirror: bool = Field(
        default=False,
        description="Whether events reported to Hogsend are captured in PostHog too; those from "
        "PostHog never are.",
    )
    analytics_event_mirror_allow: CommaSeparated = Field(
        (), description="Names of the only events to mirror, separated by commas; all when empty."
    )
    analytics_event_mirror_deny: CommaSeparated = Field(
        (), description="Names of events not to mirror, separated by commas."
    )
    outbound_webhook_max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        8, description="Attempts to deliver an event before it is set aside as a dead letter."
    )
    outbound_webhook_timeout_ms: Annotated[int, Field(ge=1, le=300_000)] = Field(
        15_000, description="Milliseconds one delivery may take."
    )
    outbound_webhook_base_delay_ms: Annotated[int, Field(ge=1, le=_YEAR_MS)] = Field(
        5_000,
        description="Milliseconds that every attempt doubles: twice as many before the second, "
        "four times as many before the third, and so on.",
    )
    outbound_webhook_max_delay_ms: Annotated[int, Field(ge=1, le=_YEAR_MS)] = Field(
        21_600_000,
        description="Longest delay between two attempts, in milliseconds. No event is tried for "
        "longer than that in all.",
    )
    delivery_retention_days: RetentionDays = Field(
        0,
        description="Days that the outcome of a delivery is kept; 0 is until there are 1,000 newer "
        "ones of its destination.",
    )

    max_destinations: Annotated[int, Field(ge=1, le=500)] = Field(
        50, description="Destinations there may be; each holds engagement and takes memory."
    )

    @field_validator("default_timezone")
    @classmethod
    def _must_be_timezone(cls, value: str) -> str:
        zone = find_timezone(value)
        if zone is None:
            raise ValueError(
                "there is no such IANA time zone; write one, for example Europe/Berlin"
            )
        return zone
