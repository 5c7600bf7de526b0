"""Routes `/flags/` and the older `/decide/` (rust/feature-flags/src/api/)."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from litestar import Request, post
from litestar.di import NamedDependency

from sandbox.errors import ApiError, ApiErrorBody, invalid
from sandbox.evaluation_runtime import runtime_of
from sandbox.flags import FlagDetails
from sandbox.http.remote_config import DecideConfig
from sandbox.ingestion.decoding import Payload, decode
from sandbox.instance import Instance

VERSION_WITH_DETAILS = 2


class FlagsResponse(msgspec.Struct, frozen=True, rename="camel"):
    """The response with reasons and metadata, for `?v=2` and later."""

    errors_while_computing_flags: bool
    flags: dict[str, FlagDetails]
    request_id: str
    evaluated_at: int


class LegacyFlagsResponse(msgspec.Struct, frozen=True, rename="camel"):
    """The response with values and payloads only."""

    errors_while_computing_flags: bool
    feature_flags: dict[str, bool | str]
    feature_flag_payloads: dict[str, str]
    request_id: str
    evaluated_at: int


@post(["/flags", "/decide"], status_code=200)
async def evaluate_flags(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance]
) -> dict[str, Any]:
    """Evaluate flags for a distinct id. Properties in the request override stored ones.

    `/decide` and `/flags?config=true` return the project's configuration too.
    """
    response: dict[str, Any] = msgspec.to_builtins(await _evaluate(request, instance))
    is_decide = request.scope["path"].startswith("/decide")
    if is_decide or request.query_params.get("config") == "true":
        response |= msgspec.to_builtins(DecideConfig())
    return response


async def _evaluate(
    request: Request[Any, Any, Any], instance: Instance
) -> FlagsResponse | LegacyFlagsResponse:
    payload = Payload(
        body=await request.body(),
        content_type=request.headers.get("Content-Type", ""),
        encoding=request.headers.get("Content-Encoding", ""),
        compression=request.query_params.get("compression", ""),
        may_be_base64=True,
    )
    document = decode(payload)
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    distinct_id = _check(fields, instance.options.project_key)
    person = instance.people.find(distinct_id)
    properties = {
        **(person.properties if person else {}),
        **(fields.get("person_properties") or {}),
    }
    runtime = runtime_of(fields.get("evaluation_runtime"), request.headers)
    keys = fields.get("flag_keys_to_evaluate")
    flags = instance.flags.evaluate(distinct_id, properties, keys, runtime)
    evaluated_at = int(instance.clock.now() * 1000)
    version = request.query_params.get("v", "")
    if (
        request.scope["path"].startswith("/flags")
        and version.isdecimal()
        and int(version) >= VERSION_WITH_DETAILS
    ):
        return FlagsResponse(False, flags, str(uuid.uuid4()), evaluated_at)  # noqa: FBT003
    return LegacyFlagsResponse(
        errors_while_computing_flags=False,
        feature_flags={key: flag.value for key, flag in flags.items()},
        feature_flag_payloads={
            key: flag.metadata.payload for key, flag in flags.items() if flag.metadata.payload
        },
        request_id=str(uuid.uuid4()),
        evaluated_at=evaluated_at,
    )


def _check(fields: dict[str, Any], project_key: str) -> str:
    if fields.get("token", fields.get("api_key")) != project_key:
        detail = "The project API key is missing, unknown or no longer valid."
        raise ApiError(401, ApiErrorBody("authentication_error", "invalid_api_key", detail))
    distinct_id = fields.get("distinct_id")
    if not isinstance(distinct_id, str) or not distinct_id:
        raise invalid("The distinct_id field is missing from the request.", "distinct_id")
    return distinct_id
