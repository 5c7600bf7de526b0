"""Validates and evaluates the filters of a hog function.

PostHog compiles filters to bytecode (posthog/cdp/filters.py) and runs it for every event
(nodejs/src/cdp/utils/hog-function-filtering.ts). The sandbox evaluates filters directly; its
`bytecode` only indicates that they were accepted.

For PostHog `$is_identified` is an ordinary event property. posthog-js sends it, server SDKs do not.
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
    """A condition on the event's name; without an id it matches every event."""

    id: str | int | None = None
    properties: list[PropertyFilter] = []


class Filters(msgspec.Struct, frozen=True):
    """Filters that match if any of the events and all of the properties match."""

    source: str | None = "events"
    events: list[EventFilter] = []
    properties: list[PropertyFilter] = []


def compile_filters(filters: Any) -> dict[str, Any]:
    """Validate filters and set their `bytecode`.

    Raises:
        ApiError: the filters are invalid.
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
        (candidate.id is None or candidate.id == event)
        and all(holds(condition, properties, person) for condition in candidate.properties)
        for candidate in filters.events
    ):
        return False
    return all(holds(condition, properties, person) for condition in filters.properties)


def holds(condition: PropertyFilter, properties: Properties, person: Properties) -> bool:
    """Whether a condition is true; a missing property is not set.

    Raises:
        ValueError: the sandbox does not support the operator.
    """
    actual = (person if condition.type == "person" else properties).get(condition.key)
    operator = condition.operator or "exact"
    if operator in ("is_set", "is_not_set"):
        return (actual is not None) == (operator == "is_set")
    expected = condition.value if isinstance(condition.value, list) else [condition.value]
    positive, negated = _POSITIVE.get(operator), _NEGATED.get(operator)
    if positive:
        return any(positive(actual, value) for value in expected)
    if negated:
        return not any(negated(actual, value) for value in expected)
    raise ValueError(f"the sandbox does not evaluate the operator {operator!r}")


def _equal(actual: Any, expected: Any) -> bool:
    return actual is not None and _text(actual) == _text(expected)


def _contains(actual: Any, expected: Any) -> bool:
    return actual is not None and _text(expected).casefold() in _text(actual).casefold()


def _regex(actual: Any, expected: Any) -> bool:
    try:
        return actual is not None and re.search(_text(expected), _text(actual)) is not None
    except re.error:
        return False


def _text(value: Any) -> str:
    # Hog compares booleans and numbers by their text.
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
    "gt": lambda actual, expected: _number(actual) > _number(expected),
    "gte": lambda actual, expected: _number(actual) >= _number(expected),
    "lt": lambda actual, expected: _number(actual) < _number(expected),
    "lte": lambda actual, expected: _number(actual) <= _number(expected),
}
_NEGATED: dict[str, Callable[[Any, Any], bool]] = {
    "is_not": _equal,
    "not_icontains": _contains,
    "not_regex": _regex,
}
