"""Property conditions: whether they hold for persons (contract 4.3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from hogsend.contract.base import Message
from hogsend.contract.persons import DistinctId
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

MAX_QUERIES = 1000
"""Of one request."""


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

    queries: Annotated[list[ConditionQuery], msgspec.Meta(max_length=MAX_QUERIES)]


class ConditionResults(Message, frozen=True):
    """One answer for each query, in order."""

    results: list[bool]


ANALYTICS_CONDITIONS = Endpoint(
    service=User.ANALYTICS,
    verb="conditions",
    request=EvaluateConditions,
    reply=ConditionResults,
    callers=(User.APP,),
    summary="Whether property conditions hold for people.",
    deadline=30.0,
)
