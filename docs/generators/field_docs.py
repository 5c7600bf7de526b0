"""Reads the docstrings of a message's fields, which Python itself discards, from its source."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any, cast

import msgspec

Schema = dict[str, Any]


def describe_fields(schema: Schema, kind: type[msgspec.Struct]) -> None:
    """Add the docstring of every field as its `description` to the JSON Schema of a Struct."""
    docstrings = _docstrings(kind)
    for field in msgspec.structs.fields(kind):
        described = schema["properties"][field.encode_name]
        # Keywords beside `$ref` are ignored (JSON Schema draft 7, 8.3).
        if field.name in docstrings and "$ref" not in described:
            described["description"] = docstrings[field.name]


def _docstrings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Docstrings of a Struct's fields by name, inherited fields included."""
    docstrings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("hogsend."):
            docstrings |= _own_docstrings(base)
    return docstrings


def _own_docstrings(kind: type) -> dict[str, str]:
    # The docstring of a field is the string after its annotation (Sphinx reads the same).
    definition = cast("ast.ClassDef", ast.parse(inspect.getsource(kind)).body[0])
    return {
        field.target.id: re.sub(r"\bNone\b", "null", " ".join(text.value.value.split()))
        for field, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
