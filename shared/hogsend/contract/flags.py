"""Evaluation of PostHog's feature flags for a person (contract 4.6)."""

from __future__ import annotations

from typing import Any

from hogsend.contract.base import Message, Properties
from hogsend.contract.persons import DistinctId
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User


class GetFlags(Message, frozen=True, kw_only=True):
    """Evaluate feature flags for a person."""

    distinct_id: DistinctId
    """A distinct id of the person."""
    keys: list[str] | None = None
    """Keys of the flags to evaluate; None means all flags."""
    groups: dict[str, str] = {}
    """Keys of the person's PostHog groups, by group type."""
    person_properties: Properties = {}
    """Person properties that override the stored ones in the evaluation."""
    group_properties: dict[str, Properties] = {}
    """Group properties that override the stored ones in the evaluation, by group type."""


class Flags(Message, frozen=True, kw_only=True):
    """The values of feature flags by key. A flag that PostHog did not return is absent."""

    values: dict[str, bool | str] = {}
    """Whether the flag is on, or the name of its variant."""
    payloads: dict[str, Any] = {}
    """JSON payloads by flag key."""


ANALYTICS_FLAGS = Endpoint(
    service=User.ANALYTICS,
    verb="flags",
    request=GetFlags,
    reply=Flags,
    callers=(User.APP, User.GATEWAY),
    summary="Evaluate feature flags for a person.",
    deadline=15.0,
)
