"""Filters of a hog function: validated, compiled, evaluated.

PostHog compiles filters to bytecode (posthog/cdp/filters.py) and runs it for every event
(nodejs/src/cdp/utils/hog-function-filtering.ts). The sandbox evaluates them directly; its
`bytecode` only shows that they were accepted.

To PostHog, `$is_identified` is an ordinary event property. posthog-js sends it, server SDKs do not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sandbox.errors import invalid

Properties = Mapping[str, Any]

_TRUE = ["_H", 1, 29]
_COMPILED = ["_H", 1, 32, "evaluated by the sandbox"]


class PropertyFilter(msgspec.Struct, frozen=True):
    """A condition on a property of the event or of its person."""

    key: str
    value: Any = None
    operator: str | None = "exact"
    type: str | None = "event"


class EventFilter(msgspec.Struct, frozen=True):
    """A condition on the event; without an id it matches every event."""

    id: str | int | None = None
    properties: list[PropertyFilter] = []


class Filters(msgspec.Struct, frozen=True):
    """Match any of the events, and all of the properties."""

    source: str | None = "events"
    events: list[EventFilter] = []
    properties: list[PropertyFilter] = []


def compile_filters(filters: Any) -> dict[str, Any]:
    """Validate filters and add the `bytecode`, replacing any that was sent.

    Raises:
        ApiError: they are not valid.
    """
    if filters is None:
        filters = {}
    if not isinstance(filters, dict):
        kind = type(filters).__name__
        raise invalid(f"Invalid data. Expected a dictionary, but got {kind}.", "filters")
    for part in ("events", "actions", "properties"):
        value = filters.get(part)
        if value is not None and not isinstance(value, list):
            kind = type(value).__name__
            detail = f'Expected a list of items but got type "{kind}".'
            raise invalid(detail, f"filters__{part}", "not_a_list")
    source = filters.get("source")
    if source not in (None, "events", "person-updates", "data-warehouse-table"):
        raise invalid(f'"{source}" is not a valid choice.', "filters__source", "invalid_choice")
    kept = {name: value for name, value in filters.items() if name != "bytecode"}
    try:
        parsed = read_filters(kept)
    except msgspec.ValidationError as error:
        raise invalid(str(error), "filters") from error
    return {**kept, "bytecode": _COMPILED if parsed.events or parsed.properties else _TRUE}


def read_filters(filters: Mapping[str, Any]) -> Filters:
    """Decode filters."""
    present = {name: value for name, value in filters.items() if value is not None}
    return msgspec.convert(present, Filters)


def matches(filters: Filters, event: str, properties: Properties, person: Properties) -> bool:
    """Whether the filters match an event."""
    if filters.source not in (None, "events"):
        return False
    if filters.events and not any(
        (one.id is None or one.id == event)
        and all(holds(condition, properties, person) for condition in one.properties)
        for one in filters.events
    ):
        return False
    return all(holds(condition, properties, person) for condition in filters.properties)


def holds(condition: PropertyFilter, properties: Properties, person: Properties) -> bool:
    """Whether a condition holds; a missing key counts as not set.

    Raises:
        ValueError: the sandbox does not support the operator.
    """
    found = (person if condition.type == "person" else properties).get(condition.key)
    operator = condition.operator or "exact"
    if operator in ("is_set", "is_not_set"):
        return (found is not None) == (operator == "is_set")
    wanted = condition.value if isinstance(condition.value, list) else [condition.value]
    positive, negated = _POSITIVE.get(operator), _NEGATED.get(operator)
    if positive:
        return any(positive(found, value) for value in wanted)
    if negated:
        return not any(negated(found, value) for value in wanted)
    raise ValueError(f"the sandbox does not evaluate the operator {operator!r}")


def _equal(found: Any, wanted: Any) -> bool:
    return found is not None and _text(found) == _text(wanted)


def _contains(found: Any, wanted: Any) -> bool:
    return found is not None and _text(wanted).casefold() in _text(found).casefold()


def _regex(found: Any, wanted: Any) -> bool:
    try:
        return found is not None and re.search(_text(wanted), _text(found)) is not None
    except re.error:
        return False


def _text(value: Any) -> str:
    # Hog compares booleans and numbers as text.
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


_POSITIVE: dict[str, Callable[[Any, Any], bool]] = {
    "exact": _equal,
    "icontains": _contains,
    "regex": _regex,
    "gt": lambda found, wanted: _number(found) > _number(wanted),
    "gte": lambda found, wanted: _number(found) >= _number(wanted),
    "lt": lambda found, wanted: _number(found) < _number(wanted),
    "lte": lambda found, wanted: _number(found) <= _number(wanted),
}
_NEGATED: dict[str, Callable[[Any, Any], bool]] = {
    "is_not": _equal,
    "not_icontains": _contains,
    "not_regex": _regex,
}
