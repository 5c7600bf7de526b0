"""Error messages for invalid settings, written for operators."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def describe_problems(error: ValidationError) -> list[str]:
    """Return one line for each invalid setting, which never contains its value."""
    problems = error.errors(include_input=False, include_url=False)
    return [f"{_name(problem['loc'])}: {_message(problem)}" for problem in problems]


def _name(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"


_NOT_WHOLE = "it is not a whole number; write digits only, without a unit"
_MESSAGES = {
    "int_parsing": _NOT_WHOLE,
    "int_from_float": _NOT_WHOLE,
    "float_parsing": "it is not a number; write digits only, without a unit",
    "bool_parsing": "it is neither true nor false; write one of these",
    "literal_error": "it is not one of the allowed values; write {expected}",
    "int_parsing_size": "it is too large; write a smaller number",
    "greater_than": "it is too small; write more than {gt}",
    "greater_than_equal": "it is too small; write {ge} or more",
    "less_than_equal": "it is too large; write {le} or less",
}
"""Messages that replace pydantic's own, by pydantic's type of error."""


def _message(problem: ErrorDetails) -> str:
    message = _MESSAGES.get(problem["type"])
    if message is None:
        return problem["msg"].removeprefix("Value error, ")
    return message.format_map(problem.get("ctx", {}))
