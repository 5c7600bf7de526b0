"""Descriptions of Structs for generated documents, from the docstrings of the Structs and fields.

Python discards the docstring of a field, which is the string after its annotation. It is read from
the source file, so nothing is kept in memory or computed until a document is generated.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import cleandoc
from pathlib import Path

import msgspec

_Docstrings = Mapping[str, Mapping[str, str]]
"""Docstrings of fields, by the qualified name of their class and by their Python name."""


def describe(kind: type[msgspec.Struct]) -> str:
    """Return the docstring of a Struct as a description; empty if it has none."""
    return _in_json(cleandoc(kind.__dict__.get("__doc__") or ""), _names_around(kind))


def describe_fields(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the docstrings of a Struct's fields by their names in JSON, inherited ones included.

    Fields without a docstring are missing, and all fields of a class whose source cannot be read.
    """
    docstrings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        docstrings |= _docstrings_in(base.__module__).get(base.__qualname__, {})
    names = _names_around(kind)
    return {
        name_in_json: _in_json(docstrings[name], names)
        for name, name_in_json in _names(kind).items()
        if name in docstrings
    }


def _in_json(text: str, names: Mapping[str, str]) -> str:
    """Replace the Python names of fields, and None, by those in JSON."""
    text = re.sub(r"`(\w+)`", lambda match: f"`{names.get(match[1], match[1])}`", text)
    return re.sub(r"\bNone\b", "null", text)


def _names_around(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the names in JSON of the fields of a Struct, and of other Structs in its module.

    The description of a request may refer to its reply, which is in the same module. Other names in
    snake case are not replaced: they may be values.
    """
    names: dict[str, str] = {}
    for value in list(vars(sys.modules[kind.__module__]).values()):
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            names |= _names(value) if value.__module__ == kind.__module__ else {}
    return names | _names(kind)


def _names(kind: type[msgspec.Struct]) -> dict[str, str]:
    return dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))


@cache
def _docstrings_in(module: str) -> _Docstrings:
    """Read the docstrings of the fields of all classes in a module. Each file is parsed once."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return {}
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        # The sources are not installed, or `file` is compiled.
        return {}
    return {name: dict(_docstrings_of(definition)) for name, definition in _classes(tree)}


def _classes(
    parent: ast.Module | ast.ClassDef, prefix: str = ""
) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef):
            yield f"{prefix}{node.name}", node
            yield from _classes(node, f"{prefix}{node.name}.")


def _docstrings_of(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    # Sphinx also takes the string after an annotation as the docstring of a field.
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            yield field.target.id, " ".join(text.value.value.split())
