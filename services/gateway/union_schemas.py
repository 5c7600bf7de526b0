"""Moves constraints of unions in the OpenAPI document to the members that they constrain.

Litestar writes a text of at most 200 characters, or null, as
`{"oneOf": [{"type": "string"}, {"type": "null"}], "maxLength": 200}`. That is valid, but generators
of clients ignore `maxLength` there, or (orval's for zod) write code that does not compile.
"""

from __future__ import annotations

from typing import Any

from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import OpenAPI

_NUMBER = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_CONSTRAINTS: dict[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": _NUMBER,
    "number": _NUMBER,
    "array": frozenset({"minItems", "maxItems", "uniqueItems"}),
}
"""The constraints that apply to values of each type."""


class Document(OpenAPI):
    """An OpenAPI document whose unions have no constraints of their own."""

    _schema: dict[str, Any] | None = None

    def to_schema(self) -> dict[str, Any]:
        """Return the document as JSON values, which are built at the first call."""
        if self._schema is None:
            schema = super().to_schema()
            _move_constraints(schema)
            self._schema = schema
        return self._schema


class DocumentConfig(OpenAPIConfig):
    """The configuration of a `Document`."""

    def to_openapi_schema(self) -> OpenAPI:
        """Return a document without routes."""
        document = super().to_openapi_schema()
        return Document(**{name: getattr(document, name) for name in document.__dataclass_fields__})


def _move_constraints(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _move_constraints(item)
    elif isinstance(node, dict):
        for value in node.values():
            _move_constraints(value)
        if isinstance(node.get("oneOf"), list):
            _move_to_members(node, node["oneOf"])


def _move_to_members(union: dict[str, Any], members: list[dict[str, Any]]) -> None:
    moved: set[str] = set()
    for member in members:
        names = _CONSTRAINTS.get(str(member.get("type")), frozenset()) & union.keys()
        member.update({name: union[name] for name in names})
        moved |= names
    for name in moved:
        del union[name]
    if len(members) == 1 and "$ref" not in members[0]:
        # A field that may be absent, whose type Litestar writes as a union of one type.
        union |= {**members[0], **union}
        del union["oneOf"]
