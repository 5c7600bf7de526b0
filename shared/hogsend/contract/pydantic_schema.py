"""Makes messages usable in pydantic models, with which FastStream describes handlers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_ROOT = "#/$defs/"


def annotated(kind: Any) -> Any:
    """A pydantic type for a message type: msgspec validates, serializes and describes it."""

    def convert(value: Any) -> Any:
        return msgspec.convert(value, kind)

    return Annotated[
        Any,
        PlainValidator(convert),
        PlainSerializer(msgspec.to_builtins),
        WithJsonSchema(json_schema(kind)),
    ]


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type with all references inlined; pydantic accepts only its own."""
    (schema,), definitions = msgspec.json.schema_components((kind,), ref_template=_ROOT + "{name}")
    inlined: dict[str, Any] = _inlined(schema, definitions, ())
    return inlined


def _inlined(part: Any, definitions: dict[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(part, list):
        return [_inlined(item, definitions, within) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if not isinstance(reference, str):
        return {
            key: _inlined(value, definitions, within)
            for key, value in part.items()
            # The mapping of a union refers to its types, which are inlined with their tags.
            if not (key == "discriminator" and "mapping" in value)
        }
    name = reference.removeprefix(_ROOT)
    if name in within:
        # A recursive type is described only at its first level.
        return {"title": name}
    return _inlined(definitions[name], definitions, (*within, name))
