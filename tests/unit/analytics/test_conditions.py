"""Property conditions (contract 4.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hogsend.contract.conditions import Condition
from hogsend.contract.errors import InvalidRequest
from services.analytics.conditions.evaluation import check, holds

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


def test_a_comparison_needs_something_to_compare_with() -> None:
    with pytest.raises(InvalidRequest, match="'plan' has no value to gt with"):
        check(Condition(property="plan", operator="gt"))
    check(Condition(property="plan", operator="exists"))
    check(msgspec.json.decode(b'{"property":"a","operator":"eq","value":null}', type=Condition))
