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
"""How long PostHog is asked in all; the contacts and the answer have the rest of the deadline."""
CONTACTS_AT_A_TIME = 16

Test = Callable[[Any, Any], bool]

_WITHOUT_VALUE = frozenset({"exists", "not_exists"})


class Conditions:
    """Evaluates conditions on persons; on the contact of a person without properties."""

    def __init__(self, persons: PersonLookup, contacts: ContactLookup) -> None:
        self._persons = persons
        self._contacts = contacts

    async def evaluate(self, queries: Sequence[ConditionQuery]) -> list[bool]:
        """Say for each query whether all its conditions hold.

        Raises:
            InvalidRequest: a condition cannot be evaluated.
            Unavailable: a contact is needed, and ingest cannot be asked.
        """
        for query in queries:
            for condition in query.conditions:
                check(condition)
        known = await self._properties([query.distinct_id for query in queries if query.conditions])
        return [
            all(holds(condition, known[query.distinct_id]) for condition in query.conditions)
            for query in queries
        ]

    async def _properties(self, distinct_ids: Sequence[str]) -> dict[str, Properties]:
        people = list(dict.fromkeys(distinct_ids))
        persons = await self._persons.properties_of_all(people, seconds=PERSONS_SECONDS)
        slots = asyncio.Semaphore(CONTACTS_AT_A_TIME)

        async def else_the_contacts(distinct_id: str, properties: Properties) -> Properties:
            if properties:
                return properties
            async with slots:
                return (await self._contacts.get(distinct_id)).properties

        found = await asyncio.gather(*map(else_the_contacts, people, persons))
        return dict(zip(people, found, strict=True))


def check(condition: Condition) -> None:
    """Refuse a condition that is incomplete.

    Raises:
        InvalidRequest: its operator needs a value, and there is none.
    """
    if condition.value is msgspec.UNSET and condition.operator not in _WITHOUT_VALUE:
        raise InvalidRequest(
            f"the condition on {condition.property!r} has no value to {condition.operator} with"
        )


def holds(condition: Condition, properties: Properties) -> bool:
    """Whether a condition holds for a flat bag of properties."""
    actual = properties.get(condition.property, msgspec.UNSET)
    return _OPERATORS[condition.operator](actual, condition.value)


def _same(one: Any, other: Any) -> bool:
    """Equality as in JSON: numbers by value, and a boolean is not a number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _contains(actual: Any, expected: Any) -> bool:
    return isinstance(actual, str) and isinstance(expected, str) and expected in actual


def _exists(actual: Any) -> bool:
    return actual is not msgspec.UNSET and actual is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_numbers(compare: Test) -> Test:
    return lambda one, other: _is_number(one) and _is_number(other) and compare(one, other)


_OPERATORS: dict[str, Test] = {
    "eq": _same,
    "neq": lambda actual, expected: not _same(actual, expected),
    "gt": _of_numbers(operator.gt),
    "gte": _of_numbers(operator.ge),
    "lt": _of_numbers(operator.lt),
    "lte": _of_numbers(operator.le),
    "exists": lambda actual, _: _exists(actual),
    "not_exists": lambda actual, _: not _exists(actual),
    "contains": _contains,
}
