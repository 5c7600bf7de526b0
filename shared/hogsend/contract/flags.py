"""Feature flags of a person (contract 4.6)."""

from __future__ import annotations

from typing import Any

from hogsend.contract.base import Message, Properties
from hogsend.contract.persons import DistinctId
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User


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


ANALYTICS_FLAGS = Endpoint(
    service=User.ANALYTICS,
    verb="flags",
    request=GetFlags,
    reply=Flags,
    callers=(User.APP, User.GATEWAY),
    summary="Feature flags of a person.",
    deadline=15.0,
)
