"""What is wrong with settings, in words an operator can act on."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def describe_problems(error: ValidationError) -> list[str]:
    """Say what is wrong with the environment: one line a setting, never a value."""
    problems = error.errors(include_input=False, include_url=False)
    return [f"{_name(problem['loc'])}: {_said(problem)}" for problem in problems]


def _name(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"


_WHOLE = "it is no whole number; write digits only, without a unit"
_SAID = {
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": "it is no number; write digits only, without a unit",
    "bool_parsing": "it is neither true nor false; write one of these",
    "literal_error": "it is none of what it can be; write {expected}",
    "int_parsing_size": "it is too much; write a smaller number",
    "greater_than": "it is too little; write more than {gt}",
    "greater_than_equal": "it is too little; write {ge} or more",
    "less_than_equal": "it is too much; write {le} or less",
}
"""What pydantic calls otherwise, by its types of errors."""


def _said(problem: ErrorDetails) -> str:
    said = _SAID.get(problem["type"])
    if said is None:
        return problem["msg"].removeprefix("Value error, ")
    return said.format_map(problem.get("ctx", {}))
