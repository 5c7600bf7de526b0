"""Flag definitions, with which server SDKs evaluate flags locally, and remote configuration."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from sandbox.errors import ApiError, ApiErrorBody, not_found
from sandbox.flags import FlagDefinition
from sandbox.http.access import authorize
from sandbox.instance import Instance

AnyRequest = Request[Any, Any, Any]
SCOPE = "feature_flag:read"


class Definitions(msgspec.Struct, frozen=True):
    """All flags of a project. The sandbox has no cohorts and groups."""

    flags: list[FlagDefinition]
    group_type_mapping: dict[str, str] = {}
    cohorts: dict[str, Any] = {}


@get(["/flags/definitions", "/api/feature_flag/local_evaluation"], sync_to_thread=False)
def get_definitions(
    request: AnyRequest, instance: NamedDependency[Instance]
) -> Response[bytes | None]:
    """Return all flags, or 304 if they did not change (rust/feature-flags)."""
    _authorize(request, instance)
    token = request.query_params.get("token")
    if token not in (None, instance.options.project_key):
        raise _invalid_key()
    body = msgspec.json.encode(Definitions(instance.flags.definitions(instance.project.id)))
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, must-revalidate"}
    if request.headers.get("If-None-Match", "").removeprefix("W/") == etag:
        return Response(None, status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=MediaType.JSON)


@get(
    [
        "/api/projects/{project_id:str}/feature_flags/{key:str}/remote_config",
        "/api/environments/{project_id:str}/feature_flags/{key:str}/remote_config",
    ],
    sync_to_thread=False,
)
def get_remote_config_payload(
    request: AnyRequest,
    instance: NamedDependency[Instance],
    project_id: FromPath[str],
    key: FromPath[str],
) -> Response[bytes]:
    """Return the payload of a flag, a JSON text, by the flag's key or id."""
    _authorize(request, instance, project_id)
    try:
        payload = instance.flags.payload(key)
    except LookupError:
        raise not_found() from None
    return Response(msgspec.json.encode(payload), media_type=MediaType.JSON)


def _authorize(request: AnyRequest, instance: Instance, project_id: str = "@current") -> None:
    secret = f"Bearer {instance.options.flags_key}"
    presented = request.headers.get("Authorization", "")
    if hmac.compare_digest(presented.encode(), secret.encode()):
        return
    if presented.startswith("Bearer phs_"):
        raise _invalid_key()
    authorize(request, instance, SCOPE, project_id)


def _invalid_key() -> ApiError:
    detail = "The API key is missing, unknown or of another project."
    return ApiError(401, ApiErrorBody("authentication_error", "invalid_api_key", detail))
