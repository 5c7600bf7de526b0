"""Descriptions of bodies and their fields in the OpenAPI document, from docstrings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from litestar.openapi.spec import Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from hogsend.contract.field_docs import describe, describe_fields

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator


class DescribedBodies(OpenAPISchemaPlugin):
    """Completes the schema that Litestar makes of a Struct.

    It adds the docstrings of the Struct and of its fields, and whether unknown fields are refused.

    Litestar calls it only while it generates the document, which is on the first request for it.
    """

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Return whether a type is a Struct."""
        return not field_definition.is_union and field_definition.is_subclass_of(msgspec.Struct)

    def to_openapi_schema(
        self, field_definition: FieldDefinition, schema_creator: SchemaCreator
    ) -> Schema:
        """Return Litestar's schema of a Struct, with descriptions and refused fields."""
        litestars = next(
            plugin
            for plugin in schema_creator.plugins
            if plugin is not self and schema_creator.plugin_supports_field(plugin, field_definition)
        )
        schema = litestars.to_openapi_schema(field_definition, schema_creator)
        kind = field_definition.annotation
        schema.description = describe(kind) or None
        if kind.__struct_config__.forbid_unknown_fields:
            schema.additional_properties = False
        for name, description in describe_fields(kind).items():
            # A property may be a `$ref`: OpenAPI 3.1 allows a description beside it.
            # The docstring of a field replaces the description that its type has by `Meta`.
            (schema.properties or {})[name].description = description
        return schema
