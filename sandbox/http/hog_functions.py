"""Routes below `hog_functions/` (posthog/api/hog_function.py)."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from hogsend.contract.json_text import NOT_JSON
from sandbox.errors import invalid, method_not_allowed, parse_error
from sandbox.functions.inputs import shown_inputs
from sandbox.functions.model import (
    FunctionStatus,
    HogFunction,
    MinimalFunction,
    ShownFunction,
    ShownTemplate,
    UserSummary,
)
from sandbox.functions.templates import Template
from sandbox.http.access import authorize
from sandbox.http.pagination import Page, paginate
from sandbox.instance import Instance

AnyRequest = Request[Any, Any, Any]
READ, WRITE = "hog_function:read", "hog_function:write"


class HogFunctionsController(Controller):
    """Hog functions of a project."""

    path = "/hog_functions"

    @get("/", sync_to_thread=False)
    def list_functions(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> Page[MinimalFunction] | Page[ShownFunction]:
        """List functions by `type` (older clients: `types`), with inputs only if `full=true`."""
        authorize(request, instance, READ, project_id)
        query = request.query_params
        types = query.get("type", query.get("types", "destination")).split(",")
        functions = instance.functions.of_types(types)
        if query.get("full") == "true":
            full = [_shown(instance, function) for function in functions]
            return paginate(request, instance.options.url, full)
        minimal = [
            _minimal(instance, function, instance.functions.template(function.template_id))
            for function in functions
        ]
        return paginate(request, instance.options.url, minimal)

    @post("/")
    async def create_function(
        self, request: AnyRequest, instance: NamedDependency[Instance], project_id: FromPath[str]
    ) -> ShownFunction:
        """Create a function."""
        authorize(request, instance, WRITE, project_id)
        return _shown(instance, instance.functions.create(await _fields(request)))

    @get("/{function_id:str}", sync_to_thread=False)
    def get_function(
        self,
        request: AnyRequest,
        instance: NamedDependency[Instance],
        project_id: FromPath[str],
        function_id: FromPath[str],
    ) -> ShownFunction:
        """Return a function with its secret inputs hidden."""
        authorize(request, instance, READ, project_id)
        return _shown(instance, instance.functions.get(function_id))

    @patch("/{function_id:str}")
    async def update_function(
        self,
        request: AnyRequest,
        instance: NamedDependency[Instance],
        project_id: FromPath[str],
        function_id: FromPath[str],
    ) -> ShownFunction:
        """Change a function; `{"deleted": true}` deletes it."""
        authorize(request, instance, WRITE, project_id)
        return _shown(instance, instance.functions.update(function_id, await _fields(request)))

    @delete("/{function_id:str}", status_code=405, sync_to_thread=False)
    def delete_function(
        self,
        request: AnyRequest,
        instance: NamedDependency[Instance],
        project_id: FromPath[str],
        function_id: FromPath[str],
    ) -> None:
        """Refuse: functions are deleted with PATCH (posthog/api/forbid_destroy_model.py)."""
        authorize(request, instance, WRITE, project_id)
        instance.functions.get(function_id)
        raise method_not_allowed("Functions are deleted by setting `deleted` to true with PATCH.")


async def _fields(request: AnyRequest) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(await request.body())
    except NOT_JSON as error:
        raise parse_error(f"JSON parse error - {error}") from error
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise invalid(f"Invalid data. Expected a dictionary, but got {kind}.")
    return fields


def _common(instance: Instance, function: HogFunction) -> dict[str, Any]:
    return {
        "id": function.id,
        "type": function.type,
        "name": function.name,
        "description": function.description,
        "created_at": function.created_at,
        "created_by": UserSummary(),
        "updated_at": function.updated_at,
        "enabled": function.enabled,
        "hog": function.hog,
        "filters": function.filters,
        "icon_url": function.icon_url,
        "status": FunctionStatus(state=instance.functions.watcher_state),
        "execution_order": function.execution_order,
    }


def _minimal(
    instance: Instance, function: HogFunction, template: Template | None
) -> MinimalFunction:
    return MinimalFunction(
        **_common(instance, function), template=template.summary if template else None
    )


def _shown(instance: Instance, function: HogFunction) -> ShownFunction:
    template = instance.functions.template(function.template_id)
    return ShownFunction(
        **_common(instance, function),
        template=_shown_template(template) if template else None,
        bytecode=["_H", 1, 32, "run by the sandbox"],
        inputs_schema=function.inputs_schema,
        inputs=shown_inputs(function.inputs_schema, function.inputs),
        masking=function.masking,
        mappings=function.mappings,
    )


def _shown_template(template: Template) -> ShownTemplate:
    return ShownTemplate(
        **msgspec.structs.asdict(template.summary),
        code=template.hog,
        code_language="hog",
        inputs_schema=template.inputs_schema,
    )
