"""Creates, changes and lists the project's hog functions (posthog/api/hog_function.py)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sandbox.clock import Clock, iso
from sandbox.errors import ApiError, invalid, not_found, required
from sandbox.functions.filters import compile_filters
from sandbox.functions.inputs import read_inputs, read_schema
from sandbox.functions.model import TYPES, HogFunction
from sandbox.functions.templates import Template, template_of

Fields = Mapping[str, Any]
"""A decoded request body that is not validated yet."""


HEALTHY, DEGRADED, DISABLED, BLOCKED = 1, 2, 3, 12
"""Values of `status.state` (`nodejs/src/cdp/services/monitoring/hog-watcher.service.ts`)."""


class HogFunctions:
    """All functions.

    `data_pipelines` is whether the organization has the add-on. `signing` is whether this version
    of PostHog can sign webhooks (PostHog/posthog#90307).
    """

    def __init__(self, clock: Clock, *, data_pipelines: bool, signing: bool = True) -> None:
        self._clock = clock
        self._functions: dict[str, HogFunction] = {}
        self.data_pipelines = data_pipelines
        self.signing = signing
        self.watcher_state = HEALTHY
        """State that PostHog's watcher gives every function (`status.state`)."""

    @property
    def delivers(self) -> bool:
        """Whether the watcher lets enabled functions deliver."""
        return self.watcher_state not in {DISABLED, BLOCKED}

    def template(self, id: str | None) -> Template | None:
        """Return the present version of a template. A function keeps the version it was made of."""
        return template_of(id, signing=self.signing)

    def all(self) -> list[HogFunction]:
        """Return the functions that are not deleted, by execution order, then by creation."""
        functions = [function for function in self._functions.values() if not function.deleted]
        return sorted(
            functions,
            key=lambda function: (function.execution_order is None, function.execution_order or 0),
        )

    def of_types(self, types: list[str]) -> list[HogFunction]:
        """Return the functions of the given types."""
        return [function for function in self.all() if function.type in types]

    def get(self, id: str, *, deleted: bool = False) -> HogFunction:
        """Return a function, a deleted one only with `deleted`.

        Raises:
            ApiError: 404.
        """
        function = self._functions.get(id)
        if function is None or (function.deleted and not deleted):
            raise not_found()
        return function

    def create(self, fields: Fields) -> HogFunction:
        """Create a function.

        Raises:
            ApiError: a field is missing or invalid, or the add-on is missing.
        """
        kind = _type(fields)
        template = self._template(fields.get("template_id"))
        self._check_plan(template, new=True)
        hog = _text(fields, "hog", "") or (template.hog if template else "")
        schema = read_schema(fields.get("inputs_schema") or [])
        if template and (not schema or not self.data_pipelines):
            schema = template.inputs_schema
        if template and not self.data_pipelines:
            hog = template.hog
        inputs = read_inputs(schema, fields.get("inputs") or {}, {})
        filters = compile_filters(fields.get("filters"))
        if not hog:
            raise invalid("Required.", "hog")
        now = iso(self._clock.now())
        function = HogFunction(
            id=str(uuid.uuid4()),
            type=kind,
            name=_text(fields, "name", None),
            description=_text(fields, "description", "") or "",
            created_at=now,
            updated_at=now,
            enabled=_flag(fields, "enabled", default=False),
            deleted=_flag(fields, "deleted", default=False),
            hog=hog,
            inputs_schema=schema,
            inputs=inputs,
            filters=filters,
            masking=fields.get("masking"),
            mappings=fields.get("mappings"),
            icon_url=_text(fields, "icon_url", None) or (template.icon_url if template else None),
            template_id=template.summary.id if template else None,
            execution_order=fields.get("execution_order"),
        )
        self._functions[function.id] = function
        return function

    def update(self, id: str, fields: Fields) -> HogFunction:
        """Change the given fields. `inputs` is replaced as a whole.

        Raises:
            ApiError: the function does not exist, or a field is invalid. Nothing is changed.
        """
        function = self.get(id, deleted=fields.get("deleted") is False)
        if "type" in fields and _type(fields) != function.type:
            raise invalid("Cannot modify the type of an existing function", "type")
        template = self._template(fields.get("template_id", function.template_id))
        self._check_plan(template, new=False)
        schema = function.inputs_schema
        if "inputs_schema" in fields:
            schema = read_schema(fields["inputs_schema"])
        hog = _text(fields, "hog", function.hog) or function.hog
        if template and not self.data_pipelines:
            schema, hog = template.inputs_schema, template.hog
        inputs = function.inputs
        if "inputs" in fields:
            inputs = read_inputs(schema, fields["inputs"] or {}, function.inputs)
        filters = function.filters
        if "filters" in fields:
            filters = compile_filters(fields["filters"])
        name = _text(fields, "name", function.name)
        description = _text(fields, "description", function.description) or ""
        enabled = _flag(fields, "enabled", default=function.enabled)
        deleted = _flag(fields, "deleted", default=function.deleted)

        function.inputs_schema, function.hog = schema, hog
        function.inputs, function.filters = inputs, filters
        function.name, function.description = name, description
        function.enabled, function.deleted = enabled, deleted
        function.masking = fields.get("masking", function.masking)
        function.mappings = fields.get("mappings", function.mappings)
        function.execution_order = fields.get("execution_order", function.execution_order)
        function.updated_at = iso(self._clock.now())
        if self.watcher_state == DISABLED and enabled:
            # As in PostHog, saving reactivates functions that the watcher disabled, but not those
            # that the staff disabled.
            self.watcher_state = DEGRADED
        return function

    def _template(self, id: Any) -> Template | None:
        if id is None:
            return None
        template = self.template(id) if isinstance(id, str) else None
        if template is None:
            raise invalid(f"No template found for id '{id}'", "template_id")
        return template

    def _check_plan(self, template: Template | None, *, new: bool) -> None:
        if self.data_pipelines:
            return
        if template is None:
            raise _needs_addon("to create custom functions")
        if new and not template.summary.free:
            raise _needs_addon("for this template")


def _needs_addon(what: str) -> ApiError:
    return invalid(f"The Data Pipelines addon is required {what}.", "template_id")


def _type(fields: Fields) -> str:
    if "type" not in fields:
        raise required("type")
    kind = fields["type"]
    if kind not in TYPES:
        raise invalid(f'"{kind}" is not a valid choice.', "type", "invalid_choice")
    return str(kind)


def _flag(fields: Fields, name: str, *, default: bool) -> bool:
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise invalid("Must be a valid boolean.", name)
    return value


def _text(fields: Fields, name: str, default: str | None) -> str | None:
    value = fields.get(name, default)
    if value is not None and not isinstance(value, str):
        raise invalid("Not a valid string.", name)
    return value
