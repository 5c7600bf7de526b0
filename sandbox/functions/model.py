"""Hog functions, as stored and in the API's format (posthog/api/hog_function.py)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

Json = Any
"""JSON that is stored and returned unchanged."""

TYPES = (
    "destination",
    "site_destination",
    "internal_destination",
    "source_webhook",
    "warehouse_source_webhook",
    "site_app",
    "transformation",
)
"""`HogFunctionType` in posthog/models/hog_functions/hog_function.py."""


InputType = Literal[
    "string",
    "boolean",
    "dictionary",
    "choice",
    "json",
    "integration",
    "integration_field",
    "email",
    "native_email",
    "number",
]
"""`InputsSchemaItemSerializer` in posthog/cdp/validation.py."""


class InputSchema(msgspec.Struct, frozen=True):
    """The definition of an input."""

    key: str
    type: InputType
    label: str | UnsetType = UNSET
    required: bool = False
    secret: bool = False
    hidden: bool = False
    description: str | UnsetType = UNSET
    default: Json | UnsetType = UNSET
    choices: list[dict[str, Json]] | UnsetType = UNSET
    integration: str | UnsetType = UNSET
    templating: Json | UnsetType = UNSET


class Input(msgspec.Struct, frozen=True):
    """The value of an input. Of a secret input the API returns only `secret`."""

    value: Json | UnsetType = UNSET
    bytecode: list[Json] | UnsetType = UNSET
    secret: bool | UnsetType = UNSET


class HogFunction(msgspec.Struct, kw_only=True):
    """A stored function."""

    id: str
    type: str
    name: str | None
    description: str
    created_at: str
    updated_at: str
    enabled: bool
    deleted: bool
    hog: str
    inputs_schema: list[InputSchema]
    inputs: dict[str, Input]
    """All values, including those of secrets, which `shown_inputs` hides."""

    filters: dict[str, Json]
    masking: Json
    mappings: Json
    icon_url: str | None
    template_id: str | None
    execution_order: int | None


class UserSummary(msgspec.Struct, frozen=True):
    """The sandbox's only user, who created everything."""

    id: int = 1
    uuid: str = "0190a000-0000-7000-8000-0000000000aa"
    distinct_id: str = "sandbox-user"
    first_name: str = "Sandbox"
    email: str = "sandbox@example.com"


class TemplateSummary(msgspec.Struct, frozen=True):
    """The template of a function."""

    id: str
    name: str
    type: str
    status: str
    free: bool


class ShownTemplate(TemplateSummary, frozen=True):
    """The template of a single function, with its present program and input definitions."""

    code: str
    code_language: str
    inputs_schema: list[InputSchema]


class FunctionStatus(msgspec.Struct, frozen=True):
    """State that PostHog's watcher gives a function; set with `/_sandbox/watcher`."""

    state: int = 1
    tokens: int = 10_000


class FunctionFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a function in every API response."""

    id: str
    type: str
    name: str | None
    description: str
    created_at: str
    created_by: UserSummary
    updated_at: str
    enabled: bool
    hog: str
    filters: dict[str, Json]
    icon_url: str | None
    status: FunctionStatus
    execution_order: int | None


class MinimalFunction(FunctionFields, frozen=True, kw_only=True):
    """A function in a list, without inputs."""

    template: TemplateSummary | None


class ShownFunction(FunctionFields, frozen=True, kw_only=True):
    """A single function with all its fields."""

    template: ShownTemplate | None
    bytecode: list[Json] | None
    transpiled: None = None
    inputs_schema: list[InputSchema]
    inputs: dict[str, Input]
    masking: Json
    mappings: Json
