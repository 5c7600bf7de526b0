"""What pydantic is told of our messages: FastStream describes an app's handlers with pydantic."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_ROOT = "#/$defs/"


def annotated(kind: Any) -> Any:
    """The type that stands for a message's in a pydantic model: read, written and described."""

    def convert(value: Any) -> Any:
        return msgspec.convert(value, kind)

    return Annotated[
        Any,
        PlainValidator(convert),
        PlainSerializer(msgspec.to_builtins),
        WithJsonSchema(json_schema(kind)),
    ]


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type, without references: pydantic refuses those it did not make."""
    (schema,), definitions = msgspec.json.schema_components((kind,), ref_template=_ROOT + "{name}")
    inlined: dict[str, Any] = _inlined(schema, definitions, ())
    return inlined


def _inlined(part: Any, definitions: dict[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(part, list):
        return [_inlined(one, definitions, within) for one in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if not isinstance(reference, str):
        return {
            key: _inlined(value, definitions, within)
            for key, value in part.items()
            # What tells the types of a union apart; it refers to them, and each has it as well.
            if not (key == "discriminator" and "mapping" in value)
        }
    name = reference.removeprefix(_ROOT)
    if name in within:
        # A type that contains itself is described once.
        return {"title": name}
    return _inlined(definitions[name], definitions, (*within, name))
