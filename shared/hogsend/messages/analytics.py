"""What the analytics service answers: persons, time zones, conditions, flags."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hogsend.messages.base import Message, Properties
from hogsend.messages.persons import DistinctId

TimezoneSource = Literal[
    "explicit",
    "posthog_timezone",
    "posthog_geoip",
    "contact_column",
    "contact_properties",
    "default",
    "fallback",
]


class GetPerson(Message, frozen=True):
    """Ask for a person's properties."""

    distinct_id: DistinctId


class Person(Message, frozen=True):
    """A person's properties; empty when there is none or it could not be read."""

    properties: Properties


class GetTimezone(Message, frozen=True):
    """Ask in which time zone somebody lives (contract 4.2)."""

    distinct_id: DistinctId
    explicit: str | None = None
    """Wins over everything; an unknown zone is an error."""
    default: str | None = None
    """Stands in for `DEFAULT_TIMEZONE` when nothing is known."""


class Timezone(Message, frozen=True):
    """An IANA zone and where it came from."""

    timezone: str
    source: TimezoneSource


class Condition(Message, frozen=True, kw_only=True):
    """One property condition (contract 4.3)."""

    type: Literal["property"] = "property"
    property: str
    operator: Literal["eq", "neq", "gt", "gte", "lt", "lte", "exists", "not_exists", "contains"]
    value: Any | msgspec.UnsetType = msgspec.UNSET


class ConditionQuery(Message, frozen=True):
    """Ask whether all `conditions` hold for one person."""

    distinct_id: DistinctId
    conditions: list[Condition]


class EvaluateConditions(Message, frozen=True):
    """Several queries at once."""

    queries: list[ConditionQuery]


class ConditionResults(Message, frozen=True):
    """One answer for each query, in order."""

    results: list[bool]


class GetFlags(Message, frozen=True, kw_only=True):
    """Evaluate feature flags for a person."""

    distinct_id: DistinctId
    keys: list[str] | None = None
    """Only these; None means all."""
    groups: dict[str, str] = {}
    person_properties: Properties = {}
    group_properties: dict[str, Properties] = {}


class Flags(Message, frozen=True, kw_only=True):
    """Values by flag key; a flag PostHog says nothing about is absent."""

    values: dict[str, bool | str] = {}
    payloads: dict[str, Any] = {}


CapabilityName = Literal[
    "eventCapture",
    "personWrites",
    "personReads",
    "eventsIn",
    "engagementOut",
    "loopProvisioning",
]


class Capability(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the seed's degradation table, as it is now."""

    name: CapabilityName
    state: Literal["on", "off", "unknown"]
    reason: str
    """Why it is in that state."""
    remediation: str | None = None
    """What to set; None when there is nothing to do."""


class Capabilities(Message, frozen=True):
    """Rows of the degradation table."""

    capabilities: list[Capability]
