"""Error responses: their bodies (contract 0.1 and 5.1), and the handlers that build them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    ValidationException,
)
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.status_codes import (
    HTTP_408_REQUEST_TIMEOUT,
    HTTP_409_CONFLICT,
    HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    HTTP_415_UNSUPPORTED_MEDIA_TYPE,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_502_BAD_GATEWAY,
    HTTP_503_SERVICE_UNAVAILABLE,
)
from litestar.types import ExceptionHandlersMap

from hogsend.contract.errors import Forbidden, HogsendError, InvalidRequest
from hogsend.contract.provisioning import Refusal
from hogsend.service import metrics
from services.gateway.json_body import REQUIRED, InvalidBodyError, MalformedBodyError
from services.gateway.response_headers import RETRY_AFTER
from services.gateway.webhooks.posthog import InvalidPayloadError, MalformedJSONError

log = structlog.get_logger(__name__)

MALFORMED = "Malformed JSON in request body"

NO_BODY = "'data'"
"""Litestar's error message for a request that has no body although the route needs one."""


class NotOfferedError(Exception):
    """A feature of the upstream Hogsend that this product does not have.

    The message says what to do instead.
    """


class ErrorBody(msgspec.Struct, frozen=True):
    """An error with its message."""

    error: str
    """The error, in words."""


class TypedErrorBody(msgspec.Struct, frozen=True):
    """An error with its message and a code for programs."""

    error: str
    """The error, in words."""
    code: str
    """Stable code, for example `unavailable`, `forbidden` or `not_offered`."""
    remediation: str | msgspec.UnsetType = msgspec.UNSET
    """How an operator can fix it, if known."""


class RefusalBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was changed in PostHog, and how an operator can fix it."""

    error: str
    """Stable code, for example `missing-scope`."""
    detail: str | msgspec.UnsetType = msgspec.UNSET
    """The error, in words."""
    remediation: str | msgspec.UnsetType = msgspec.UNSET
    """What an operator can do about it, if known."""


class ZodError(msgspec.Struct, frozen=True, kw_only=True):
    """The issues of a refused admin request: `message` is JSON that the upstream CLI parses."""

    name: str = "ZodError"
    message: str
    """A list of issues as JSON text, each with `message`, `path` and `code`."""


class ValidationBody(msgspec.Struct, frozen=True, kw_only=True):
    """An admin request that does not match its schema."""

    success: bool = False
    error: ZodError


class FieldErrors(msgspec.Struct, frozen=True, rename="camel"):
    """The problems of a webhook body, by top-level key."""

    form_errors: list[str]
    """Problems of the body as a whole."""
    field_errors: dict[str, list[str]]
    """Problems by top-level key of the body."""


class InvalidPayloadBody(msgspec.Struct, frozen=True, kw_only=True):
    """The error of a webhook whose body was refused."""

    error: str = "Invalid payload"
    details: str | FieldErrors
    """A text if the body is not JSON, otherwise its problems by key."""


class Issue(msgspec.Struct, frozen=True):
    """One problem of a request, and the path to the wrong value."""

    message: str
    path: list[str]
    code: str = "custom"


_EXAMPLES: dict[int, tuple[msgspec.Struct, ...]] = {
    400: (
        ValidationBody(
            error=ZodError(
                message='[{"message": "Required", "path": ["url"], "code": "invalid_type"}]'
            )
        ),
        ErrorBody(MALFORMED),
    ),
    401: (ErrorBody("Unauthorized"),),
    403: (ErrorBody("Forbidden: insufficient scope"),),
    404: (ErrorBody("Not Found"),),
    408: (ErrorBody("The request body did not arrive in time"),),
    409: (
        ErrorBody(
            "the stored credential cannot be decrypted; was BETTER_AUTH_SECRET changed? "
            "Reconnect, or delete the credential"
        ),
    ),
    413: (ErrorBody("Request Entity Too Large"),),
    415: (ErrorBody("Unsupported Content-Encoding: send the body as it is, or with gzip"),),
    429: (ErrorBody("Rate limit exceeded"),),
    502: (
        RefusalBody(
            error="missing-scope",
            detail="PostHog answered 403: API key missing required scope 'hog_function:write'",
            remediation="Reconnect, and allow hog_function:write.",
        ),
    ),
    503: (TypedErrorBody("the ingest service is not running", "unavailable"),),
}
"""Examples by status: one of each kind of body that a status may have."""


def documented_errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the OpenAPI responses of a route's errors.

    413 adds 408 and 415, which every route with a body may answer as well.
    """
    bodies: dict[int, tuple[Any, str]] = {
        400: (
            ValidationBody | ErrorBody,
            "Not JSON, too deeply nested, a number out of range, or another schema mismatch.",
        ),
        401: (ErrorBody, "The key is missing or unknown."),
        403: (ErrorBody, "The key has no permission for this."),
        404: (ErrorBody, "It does not exist."),
        408: (ErrorBody, "The body did not arrive in time."),
        409: (ErrorBody, "The stored credential cannot be decrypted."),
        413: (ErrorBody, "The body is too large, or would take too much memory when decoded."),
        415: (ErrorBody, "The body has a content encoding other than gzip."),
        429: (ErrorBody, "Too many requests; see Retry-After."),
        502: (RefusalBody, "PostHog refused the request, or cannot be reached."),
        503: (
            TypedErrorBody,
            "A service is unavailable, or NATS does not permit the request; see Retry-After.",
        ),
    }
    if HTTP_413_REQUEST_ENTITY_TOO_LARGE in statuses:
        statuses = (*statuses, HTTP_408_REQUEST_TIMEOUT, HTTP_415_UNSUPPORTED_MEDIA_TYPE)
    return {
        status: ResponseSpec(
            data_container=bodies[status][0],
            description=bodies[status][1],
            generate_examples=False,
            examples=[Example(value=msgspec.to_builtins(body)) for body in _EXAMPLES[status]],
        )
        for status in statuses
    }


def admin_errors(*statuses: int) -> dict[int, ResponseSpec]:
    """`documented_errors` of a route that needs an admin key and sends a request over NATS."""
    return documented_errors(*statuses, 400, 401, 403, 429, 503)


_REFUSAL_STATUS = {"precondition": HTTP_409_CONFLICT, "posthog": HTTP_502_BAD_GATEWAY}


def refusal_response(refusal: Refusal | None) -> Response[Any]:
    """Return the response for an operation that a service refused.

    Raises:
        ValueError: `refusal` is None: the service replied with neither an outcome nor a refusal.
    """
    if refusal is None:
        raise ValueError("the reply has neither an outcome nor a refusal")
    body = RefusalBody(
        error=refusal.code,
        detail=msgspec.UNSET if refusal.detail is None else refusal.detail,
        remediation=msgspec.UNSET if refusal.remediation is None else refusal.remediation,
    )
    status = _REFUSAL_STATUS[refusal.reason]
    return Response(body, status_code=status, media_type=MediaType.JSON)


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
