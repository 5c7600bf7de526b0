"""Conditions on person properties, and requests to evaluate them (contract 4.3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from hogsend.contract.base import Message
from hogsend.contract.persons import DistinctId
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

MAX_QUERIES = 1000
"""Maximum number of queries in one request."""


class Condition(Message, frozen=True, kw_only=True):
    """A condition on one person property (contract 4.3)."""

    type: Literal["property"] = "property"
    property: str
    """Name of the person property."""
    operator: Literal["eq", "neq", "gt", "gte", "lt", "lte", "exists", "not_exists", "contains"]
    value: Any | msgspec.UnsetType = msgspec.UNSET
    """The value to compare with; absent for `exists` and `not_exists`."""


class ConditionQuery(Message, frozen=True):
    """Whether all `conditions` are true for one person."""

    distinct_id: DistinctId
    """A distinct id of the person."""
    conditions: list[Condition]


class EvaluateConditions(Message, frozen=True):
    """Evaluate several queries in one request."""

    queries: Annotated[list[ConditionQuery], msgspec.Meta(max_length=MAX_QUERIES)]


class ConditionResults(Message, frozen=True):
    """One result for each query, in the order of the request."""

    results: list[bool]


ANALYTICS_CONDITIONS = Endpoint(
    service=User.ANALYTICS,
    verb="conditions",
    request=EvaluateConditions,
    reply=ConditionResults,
    callers=(User.APP,),
    summary="Evaluate conditions on the properties of persons.",
    deadline=30.0,
)
