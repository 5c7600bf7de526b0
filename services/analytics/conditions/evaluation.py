"""Property conditions (contract 4.3)."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.conditions import Condition, ConditionQuery
from hogsend.contract.errors import InvalidRequest
from services.analytics.persons.lookup import ContactLookup, PersonLookup

PERSONS_SECONDS = 20.0
"""Time limit for all reads from PostHog. The rest of the caller's deadline is for the contacts and
the reply."""
MAX_CONCURRENT_CONTACTS = 16

Comparison = Callable[[Any, Any], bool]

_WITHOUT_VALUE = frozenset({"exists", "not_exists"})


class Conditions:
    """Evaluates conditions on a person's properties; on the contact's if the person has none."""

    def __init__(self, persons: PersonLookup, contacts: ContactLookup) -> None:
        self._persons = persons
        self._contacts = contacts

    async def evaluate(self, queries: Sequence[ConditionQuery]) -> list[bool]:
        """Return for each query whether all its conditions hold.

        Raises:
            InvalidRequest: a condition cannot be evaluated.
            Unavailable: a contact is needed, and ingest cannot be reached.
        """
        for query in queries:
            for condition in query.conditions:
                check(condition)
        properties = await self._properties(
            [query.distinct_id for query in queries if query.conditions]
        )
        return [
            all(holds(condition, properties[query.distinct_id]) for condition in query.conditions)
            for query in queries
        ]

    async def _properties(self, distinct_ids: Sequence[str]) -> dict[str, Properties]:
        unique_ids = list(dict.fromkeys(distinct_ids))
        persons = await self._persons.properties_of_all(unique_ids, seconds=PERSONS_SECONDS)
        slots = asyncio.Semaphore(MAX_CONCURRENT_CONTACTS)

        async def with_fallback(distinct_id: str, properties: Properties) -> Properties:
            if properties:
                return properties
            async with slots:
                return (await self._contacts.get(distinct_id)).properties

        properties = await asyncio.gather(*map(with_fallback, unique_ids, persons))
        return dict(zip(unique_ids, properties, strict=True))


def check(condition: Condition) -> None:
    """Check that a condition is complete.

    Raises:
        InvalidRequest: the operator needs a value, and the condition has none.
    """
    if condition.value is msgspec.UNSET and condition.operator not in _WITHOUT_VALUE:
        raise InvalidRequest(
            f"the condition on {condition.property!r} has no value to {condition.operator} with"
        )


def holds(condition: Condition, properties: Properties) -> bool:
    """Whether a condition holds for a person's properties."""
    actual = properties.get(condition.property, msgspec.UNSET)
    return _OPERATORS[condition.operator](actual, condition.value)


def _is_equal(actual: Any, expected: Any) -> bool:
    """Equality as in JSON: numbers compare by value, and a boolean is not a number."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(
            _is_equal(value, expected[key]) for key, value in actual.items()
        )
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(_is_equal, actual, expected))
    return isinstance(actual, bool) == isinstance(expected, bool) and bool(actual == expected)


def _contains(actual: Any, expected: Any) -> bool:
    return isinstance(actual, str) and isinstance(expected, str) and expected in actual


def _exists(actual: Any) -> bool:
    return actual is not msgspec.UNSET and actual is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_numbers(compare: Comparison) -> Comparison:
    return lambda actual, expected: (
        _is_number(actual) and _is_number(expected) and compare(actual, expected)
    )


_OPERATORS: dict[str, Comparison] = {
    "eq": _is_equal,
    "neq": lambda actual, expected: not _is_equal(actual, expected),
    "gt": _of_numbers(operator.gt),
    "gte": _of_numbers(operator.ge),
    "lt": _of_numbers(operator.lt),
    "lte": _of_numbers(operator.le),
    "exists": lambda actual, _: _exists(actual),
    "not_exists": lambda actual, _: not _exists(actual),
    "contains": _contains,
}
