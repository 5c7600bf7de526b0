"""Exception handlers: build the error response for each exception of a route."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR, HTTP_503_SERVICE_UNAVAILABLE
from litestar.types import ExceptionHandlersMap

from hogsend.contract.errors import Forbidden, HogsendError, InvalidRequest
from hogsend.service import metrics
from services.gateway.error_responses import (
    MALFORMED,
    ErrorBody,
    FieldErrors,
    InvalidPayloadBody,
    Issue,
    TypedErrorBody,
    ValidationBody,
    ZodError,
)
from services.gateway.json_body import REQUIRED, InvalidBodyError, MalformedBodyError
from services.gateway.response_headers import RETRY_AFTER
from services.gateway.routes.not_offered import NotOfferedError
from services.gateway.webhooks.posthog import InvalidPayloadError, MalformedJSONError

log = structlog.get_logger(__name__)

NO_BODY = "'data'"
"""Litestar's error message for a request that has no body although the route needs one."""


def _response(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> Any:
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=headers)


def _http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Any:
    return _response(error.status_code, ErrorBody(error.detail), error.headers)


def _method_not_allowed(_request: Request[Any, Any, Any], _error: HTTPException) -> Any:
    return _response(404, ErrorBody("Not Found"))


def _invalid_request(_request: Request[Any, Any, Any], error: ValidationException) -> Any:
    extra: Any = error.extra if isinstance(error.extra, list) else []
    if any(item["message"] == NO_BODY for item in extra):
        return _response(400, ErrorBody(MALFORMED))
    issues = [Issue(item["message"], str(item.get("key", "")).split(".")) for item in extra]
    return _invalid(issues or [Issue(error.detail, [])])


def _invalid_body(_request: Request[Any, Any, Any], error: InvalidBodyError) -> Any:
    problem = str(error)
    code = "invalid_type" if problem == REQUIRED else "custom"
    return _invalid([Issue(problem, error.path, code)])


def _invalid(issues: list[Issue]) -> Any:
    message = json.dumps(msgspec.to_builtins(issues))
    return _response(400, ValidationBody(error=ZodError(message=message)))


def _malformed_body(_request: Request[Any, Any, Any], _error: MalformedBodyError) -> Any:
    return _response(400, ErrorBody(MALFORMED))


def _malformed_webhook(_request: Request[Any, Any, Any], _error: MalformedJSONError) -> Any:
    return _response(400, InvalidPayloadBody(details="Malformed JSON"))


def _invalid_webhook(_request: Request[Any, Any, Any], error: InvalidPayloadError) -> Any:
    problem = str(error)
    details = (
        FieldErrors([], {error.field: [problem]}) if error.field else FieldErrors([problem], {})
    )
    return _response(400, InvalidPayloadBody(details=details))


def _hogsend_error(_request: Request[Any, Any, Any], error: HogsendError) -> Any:
    if isinstance(error, InvalidRequest):
        return _invalid([Issue(str(error), [])])
    if error.status == HTTP_500_INTERNAL_SERVER_ERROR:
        return _internal_error(_request, error)
    if error.status == HTTP_503_SERVICE_UNAVAILABLE:
        return _unavailable(error)
    return _response(error.status, ErrorBody(str(error)))


def _unavailable(error: HogsendError) -> Any:
    metrics.FAILURES.labels("gateway", error.code).inc()
    fix = error.fix if isinstance(error, Forbidden) else None
    log.warning("answered 503", reason=str(error), **({"fix": fix} if fix else {}))
    body = TypedErrorBody(str(error), error.code, fix or msgspec.UNSET)
    return _response(error.status, body, RETRY_AFTER)


def _not_offered(_request: Request[Any, Any, Any], error: NotOfferedError) -> Any:
    return _response(501, TypedErrorBody(str(error), "not_offered"))


def _internal_error(_request: Request[Any, Any, Any], error: Exception) -> Any:
    metrics.FAILURES.labels("gateway", type(error).__name__).inc()
    log.error("request failed", exc_info=error)
    return _response(500, ErrorBody("Internal Server Error"))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    HTTPException: _http_error,
    MethodNotAllowedException: _method_not_allowed,
    ValidationException: _invalid_request,
    MalformedBodyError: _malformed_body,
    InvalidBodyError: _invalid_body,
    MalformedJSONError: _malformed_webhook,
    InvalidPayloadError: _invalid_webhook,
    HogsendError: _hogsend_error,
    NotOfferedError: _not_offered,
    Exception: _internal_error,
}
