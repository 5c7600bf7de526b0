"""Validation of a hog function's inputs against their schema (posthog/cdp/validation.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from sandbox.errors import ApiError, invalid
from sandbox.functions.model import Input, InputSchema

KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "Value must be a string."),
    "boolean": (bool, "Value must be a boolean."),
    "dictionary": (dict, "Value must be a dictionary."),
}
MASK = "********"
"""Value that PostHog's web form sends for an unchanged secret."""
NOT_STORED = "No value is saved for this secret input. Enter the value again."
TEMPLATED = ("string", "dictionary", "json", "email")
_BYTECODE: list[Any] = ["_H", 1, 32, "filled in by the sandbox"]


def read_schema(schema: Any) -> list[InputSchema]:
    """Validate a schema.

    Raises:
        ApiError: the schema is not a list of input definitions.
    """
    if not isinstance(schema, list):
        raise invalid("inputs_schema must be a list of objects.", "inputs_schema")
    try:
        return msgspec.convert(schema, list[InputSchema])
    except msgspec.ValidationError as error:
        raise invalid(str(error), "inputs_schema") from error


def read_inputs(
    schema: list[InputSchema], inputs: Any, stored: Mapping[str, Input]
) -> dict[str, Input]:
    """Validate inputs. Inputs without a definition are dropped, as in PostHog.

    Args:
        schema: definitions of the inputs.
        inputs: the sent inputs.
        stored: the current inputs. A secret keeps its value if it is not sent, or is sent as
            `{"secret": true}`.

    Raises:
        ApiError: an input is missing or has the wrong type, or a secret to be kept is not stored.
    """
    if not isinstance(inputs, dict):
        kind = type(inputs).__name__
        raise invalid(f'Expected a dictionary of items but got type "{kind}".', "inputs")
    return {item.key: _read(item, inputs.get(item.key), stored.get(item.key)) for item in schema}


def shown_inputs(schema: list[InputSchema], inputs: Mapping[str, Input]) -> dict[str, Input]:
    """Return inputs as in API responses, with the values of secrets hidden."""
    secret = {item.key for item in schema if item.secret}
    return {
        key: Input(secret=True) if key in secret and item.value is not UNSET else item
        for key, item in inputs.items()
    }


def _read(item: InputSchema, sent: Any, stored: Input | None) -> Input:
    if item.secret:
        masked = isinstance(sent, dict) and _is_masked(sent)
        if masked or not sent:
            if stored is not None and stored.value is not UNSET:
                return stored
            if masked:
                raise _wrong(item, NOT_STORED)
    if sent is not None and not isinstance(sent, dict):
        kind = type(sent).__name__
        raise _wrong(item, f"Invalid data. Expected a dictionary, but got {kind}.")
    value = UNSET if sent is None else sent.get("value", UNSET)
    if value is UNSET or value is None or value == "":
        if item.required:
            raise _wrong(item, "This field is required.")
        return Input() if value is UNSET else Input(value)
    kind_and_problem = KINDS.get(item.type)
    if kind_and_problem and not isinstance(value, kind_and_problem[0]):
        raise _wrong(item, kind_and_problem[1])
    return Input(value, _BYTECODE if item.type in TEMPLATED else UNSET)


def _is_masked(sent: dict[str, Any]) -> bool:
    return bool(sent.get("secret")) and sent.get("value", MASK) in (None, MASK)


def _wrong(item: InputSchema, problem: str) -> ApiError:
    return invalid(problem, f"inputs__{item.key}")
