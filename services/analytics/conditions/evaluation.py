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
from services.analytics.persons.contacts import Contacts
from services.analytics.persons.reader import PersonReader

MOST_QUERIES = 1000
AT_ONCE = 16

Test = Callable[[Any, Any], bool]

_WITHOUT_VALUE = frozenset({"exists", "not_exists"})


class Conditions:
    """Evaluates conditions over PostHog's persons, over contacts where there is no person."""

    def __init__(self, persons: PersonReader, contacts: Contacts) -> None:
        """Look at persons and contacts."""
        self._persons = persons
        self._contacts = contacts

    async def evaluate(self, queries: Sequence[ConditionQuery]) -> list[bool]:
        """Say for each query whether all its conditions hold.

        Raises:
            InvalidRequest: a condition cannot be evaluated as it is.
            Unavailable: nothing is known about somebody, because ingest is away.
        """
        if len(queries) > MOST_QUERIES:
            raise InvalidRequest(f"{len(queries)} queries at once; {MOST_QUERIES} are the most")
        for query in queries:
            for condition in query.conditions:
                check(condition)
        slots = asyncio.Semaphore(AT_ONCE)

        async def holds_for(query: ConditionQuery) -> bool:
            if not query.conditions:
                return True
            async with slots:
                bag = await self._bag(query.distinct_id)
            return all(holds(condition, bag) for condition in query.conditions)

        return list(await asyncio.gather(*map(holds_for, queries)))

    async def _bag(self, distinct_id: str) -> Properties:
        properties = await self._persons.properties(distinct_id)
        return properties or (await self._contacts.get(distinct_id)).properties


def check(condition: Condition) -> None:
    """Refuse what only looks like a condition.

    Raises:
        InvalidRequest: its operator compares with a value, and there is none.
    """
    if condition.value is msgspec.UNSET and condition.operator not in _WITHOUT_VALUE:
        raise InvalidRequest(
            f"the condition on {condition.property!r} has no value to {condition.operator} with"
        )


def holds(condition: Condition, bag: Properties) -> bool:
    """Whether a condition holds for a flat bag of properties."""
    actual = bag.get(condition.property, msgspec.UNSET)
    return _OPERATORS[condition.operator](actual, condition.value)


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: numbers by value, and `true` is none of them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _contains(actual: Any, expected: Any) -> bool:
    return isinstance(actual, str) and isinstance(expected, str) and expected in actual


def _is_there(actual: Any) -> bool:
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
    "exists": lambda actual, _: _is_there(actual),
    "not_exists": lambda actual, _: not _is_there(actual),
    "contains": _contains,
}
