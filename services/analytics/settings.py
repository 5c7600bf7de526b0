"""Settings of the analytics service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from hogsend.contract.timezones import find_timezone
from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import CommaSeparated, RetentionDays

_YEAR_MS = 365 * 24 * 60 * 60 * 1000


class AnalyticsSettings(Settings):
    """Analytics: person reads, and events that are sent to PostHog."""

    default_timezone: str = Field(
        "UTC", description="IANA time zone of persons without a known time zone."
    )
    enable_posthog_destination: bool = Field(
        default=False,
        description="Whether a PostHog destination for events of the email funnel and for contact "
        "changes is created automatically. It needs a project key.",
    )
    analytics_event_mirror: bool = Field(
        default=False,
        description="Whether events that are reported to Hogsend are also captured in PostHog. "
        "Events that came from PostHog never are.",
    )
    analytics_event_mirror_allow: CommaSeparated = Field(
        (), description="Names of the events to mirror, separated by commas. If empty, all are."
    )
    analytics_event_mirror_deny: CommaSeparated = Field(
        (), description="Names of events that are not mirrored, separated by commas."
    )
    outbound_webhook_max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        8, description="Attempts to deliver an event before it becomes a dead letter."
    )
    outbound_webhook_timeout_ms: Annotated[int, Field(ge=1, le=300_000)] = Field(
        15_000, description="Time limit of one delivery, in milliseconds."
    )
    outbound_webhook_base_delay_ms: Annotated[int, Field(ge=1, le=_YEAR_MS)] = Field(
        5_000,
        description="Base of the delay between attempts, in milliseconds: twice this before the "
        "second attempt, four times before the third, and so on.",
    )
    outbound_webhook_max_delay_ms: Annotated[int, Field(ge=1, le=_YEAR_MS)] = Field(
        21_600_000,
        description="Longest delay between two attempts, in milliseconds; also the longest time "
        "from the first attempt of an event to its last.",
    )
    delivery_retention_days: RetentionDays = Field(
        0,
        description="Days that outcomes of deliveries are kept, at most the newest 1,000 of each "
        "destination; 0 sets no time limit.",
    )

    max_destinations: Annotated[int, Field(ge=1, le=500)] = Field(
        50,
        description="Limit of destinations; each takes memory, and keeps its engagement on disk.",
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
