"""Property conditions (contract 4.3)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from hogsend.contract.conditions import (
    ANALYTICS_CONDITIONS,
    MAX_QUERIES,
    Condition,
    ConditionQuery,
    EvaluateConditions,
)
from hogsend.contract.contacts import Contact
from hogsend.contract.errors import InvalidRequest, Unavailable
from services.analytics.conditions.evaluation import (
    MAX_CONCURRENT_CONTACTS,
    Conditions,
    check,
    holds,
)
from tests.unit.analytics.fakes import FakeContacts, FakePersons
from tests.unit.analytics.person_reading import reading
from tests.virtual_time import now, on_virtual_time

BAG: dict[str, Any] = {
    "text": "10",
    "number": 10,
    "zero": 0,
    "yes": True,
    "null": None,
    "list": [1, {"a": 1}],
    "a.b": "flat",
    "a": {"b": "nested"},
}


@pytest.mark.parametrize(
    ("property", "operator", "value", "expected"),
    [
        # Case 107.
        ("text", "gte", 10, False),
        ("zero", "exists", None, True),
        ("number", "contains", "1", False),
        ("missing", "neq", "x", True),
        # Strict equality.
        ("number", "eq", 10, True),
        ("number", "eq", 10.0, True),
        ("number", "eq", "10", False),
        ("yes", "eq", 1, False),
        ("yes", "eq", True, True),
        ("zero", "eq", False, False),
        ("null", "eq", None, True),
        ("missing", "eq", None, False),
        ("missing", "neq", None, True),
        ("list", "eq", [1, {"a": 1}], True),
        ("list", "eq", [True, {"a": 1}], False),
        # Order is for numbers only.
        ("number", "gt", 9.5, True),
        ("number", "gt", 10, False),
        ("number", "lt", 11, True),
        ("number", "lte", 10, True),
        ("number", "gte", "10", False),
        ("yes", "gte", 0, False),
        ("missing", "lt", 5, False),
        # Presence.
        ("null", "exists", None, False),
        ("null", "not_exists", None, True),
        ("missing", "not_exists", None, True),
        ("zero", "not_exists", None, False),
        # Text.
        ("text", "contains", "0", True),
        ("text", "contains", 1, False),
        ("a", "contains", "b", False),
        # No dotted paths.
        ("a.b", "eq", "flat", True),
    ],
)
def test_case_107_operators(property: str, operator: Any, value: Any, expected: bool) -> None:
    assert holds(Condition(property=property, operator=operator, value=value), BAG) is expected


def test_a_comparison_needs_a_value() -> None:
    with pytest.raises(InvalidRequest, match="'plan' has no value to gt with"):
        check(Condition(property="plan", operator="gt"))
    check(Condition(property="plan", operator="exists"))
    check(msgspec.json.decode(b'{"property":"a","operator":"eq","value":null}', type=Condition))


PRO = [Condition(property="plan", operator="eq", value="pro")]


async def test_conditions_use_the_contact_if_the_person_has_no_properties() -> None:
    persons = FakePersons({"person": {"plan": "pro"}, "other": {"plan": "free"}})
    contacts = FakeContacts(
        {user: Contact(properties={"plan": "pro"}) for user in ("contact", "other")}
    )
    people = ["person", "contact", "other", "unknown"]
    results = await Conditions(persons, contacts).evaluate(
        [ConditionQuery(person, PRO) for person in people]
    )
    assert results == [True, True, False, False]


async def test_all_conditions_must_hold_and_an_empty_list_holds() -> None:
    conditions = Conditions(FakePersons({"u": {"plan": "pro"}}), FakeContacts())
    missing = Condition(property="plan", operator="not_exists")
    queries = [ConditionQuery("u", PRO), ConditionQuery("u", [*PRO, missing])]
    assert await conditions.evaluate(queries) == [True, False]
    # No person has to be read for an empty list.
    persons = FakePersons()
    assert await Conditions(persons, FakeContacts()).evaluate([ConditionQuery("u", [])]) == [True]
    assert persons.requested == []


async def test_without_ingest_the_evaluation_fails() -> None:
    conditions = Conditions(FakePersons({"u": {"plan": "pro"}}), FakeContacts(down=True))
    assert await conditions.evaluate([ConditionQuery("u", PRO)]) == [True]
    with pytest.raises(Unavailable):
        await conditions.evaluate([ConditionQuery("unknown", PRO)])


def test_too_many_queries_are_refused_and_nothing_is_read() -> None:
    query = ConditionQuery("u", PRO)
    longest = msgspec.json.encode(EvaluateConditions([query] * MAX_QUERIES))
    assert len(msgspec.json.decode(longest, type=EvaluateConditions).queries) == MAX_QUERIES
    longer = msgspec.json.encode(EvaluateConditions([query] * (MAX_QUERIES + 1)))
    with pytest.raises(msgspec.ValidationError, match="length <= 1000"):
        msgspec.json.decode(longer, type=EvaluateConditions)


async def test_a_person_is_looked_up_once_and_contacts_a_few_at_a_time() -> None:
    class Counting(FakeContacts):
        now, max_concurrent, requests = 0, 0, 0

        async def get(self, user_id: str) -> Contact:
            self.now, self.requests = self.now + 1, self.requests + 1
            self.max_concurrent = max(self.max_concurrent, self.now)
            try:
                await asyncio.sleep(0)
                return await super().get(user_id)
            finally:
                self.now -= 1

    persons, contacts = FakePersons(), Counting()
    queries = [ConditionQuery(f"u_{number}", PRO) for number in range(100)] * 2
    assert await Conditions(persons, contacts).evaluate(queries) == [False] * 200
    assert (len(persons.requested), contacts.requests) == (100, 100)
    assert contacts.max_concurrent == MAX_CONCURRENT_CONTACTS


@on_virtual_time
async def test_while_posthog_hangs_the_contacts_decide_before_the_deadline() -> None:
    posthog = reading()
    posthog.posthog.persons["kept"] = {"plan": "pro"}
    await posthog.persons.properties("kept")
    posthog.posthog.gate.clear()
    people = [f"u_{number}" for number in range(MAX_QUERIES - 1)]
    pro = Contact(properties={"plan": "pro"})
    contacts = FakeContacts(dict.fromkeys(people[::2], pro))
    conditions, began = Conditions(posthog.persons, contacts), now()
    queries = [ConditionQuery(person, PRO) for person in [*people, "kept"]]
    assert await conditions.evaluate(queries) == [number % 2 == 0 for number in range(999)] + [True]
    assert now() - began < ANALYTICS_CONDITIONS.deadline - 5


@on_virtual_time
async def test_while_posthog_is_slow_the_contacts_decide_too() -> None:
    posthog = reading()
    posthog.posthog.delay_seconds = 4
    contacts = FakeContacts({"u_999": Contact(properties={"plan": "pro"})})
    posthog.posthog.persons["u_0"] = {"plan": "pro"}
    queries = [ConditionQuery(f"u_{number}", PRO) for number in range(MAX_QUERIES)]
    began = now()
    results = await Conditions(posthog.persons, contacts).evaluate(queries)
    assert [number for number, met in enumerate(results) if met] == [0, 999]
    assert now() - began < ANALYTICS_CONDITIONS.deadline - 5
