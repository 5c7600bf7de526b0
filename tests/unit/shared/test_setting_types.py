"""What people paste into a setting: what is refused, and nothing of it repeated."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hogsend.service.setting_types import HeaderSecret, PersonalKey, ProjectId, ProjectKey


@pytest.mark.parametrize(
    ("type", "value", "says"),
    [
        *((HeaderSecret, value, "in quotes") for value in ('"hunter2"', "'hunter2'", '"')),
        *((HeaderSecret, value, "the word Bearer") for value in ("Bearer hunter2", "bearer hu")),
        *((HeaderSecret, value, "nothing replaced") for value in ("${hunter2}", "$(hunter2)")),
        (ProjectKey, "phx_hunter2", "begins with phc_"),
        (ProjectKey, "phs_hunter2", "begins with phc_"),
        (ProjectKey, '"phc_hunter2"', "in quotes"),
        (PersonalKey, "phc_hunter2", "begins with phx_"),
        *((ProjectId, value, "/project/") for value in ("hunter2", "-1", "@current", "1,2", "'1'")),
        *((ProjectId, value, "/project/") for value in ("1.0", "https://h/project/1", "\u0661")),
    ],
)
def test_what_was_pasted_wrongly_is_named(type: Any, value: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as raised:
        TypeAdapter(type).validate_python(value)
    assert "hunter2" not in raised.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("type", "value"),
    [
        *((HeaderSecret, value) for value in ('it"s', "a,b", "$ecret", "bearers", "${a}b", "")),
        # From before PostHog's keys had prefixes.
        *((kind, "sTMFPsFhdP1Ssg") for kind in (ProjectKey, PersonalKey)),
        (ProjectKey, "phc_x"),
        (PersonalKey, "phx_x"),
        (ProjectId, "4242"),
    ],
)
def test_what_may_be_meant_is_taken(type: Any, value: str) -> None:
    taken = TypeAdapter(type).validate_python(value)
    assert (taken if isinstance(taken, str) else taken.get_secret_value()) == value
