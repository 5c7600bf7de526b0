"""Bodies of error responses (contract 0.1 and 5.1), and which exception becomes which."""

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
"""What Litestar says of a request without its body."""


class NotOfferedError(Exception):
    """Hogsend has something that this product does not; the message says what to do instead."""


class ErrorBody(msgspec.Struct, frozen=True):
    """An error in one sentence."""

    error: str


class TypedErrorBody(msgspec.Struct, frozen=True):
    """An error with a code for programs."""

    error: str
    code: str
    remediation: str | msgspec.UnsetType = msgspec.UNSET
    """What an operator can do, where that is known."""


class RefusalBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was changed in PostHog, and what an operator can do."""

    error: str
    detail: str | msgspec.UnsetType = msgspec.UNSET
    remediation: str | msgspec.UnsetType = msgspec.UNSET


class ZodError(msgspec.Struct, frozen=True, kw_only=True):
    """The issues of a rejected admin request, as the JSON text that the upstream CLI parses."""

    name: str = "ZodError"
    message: str


class ValidationBody(msgspec.Struct, frozen=True, kw_only=True):
    """An admin request that does not match its schema."""

    success: bool = False
    error: ZodError


class FieldErrors(msgspec.Struct, frozen=True, rename="camel"):
    """What is wrong with a webhook body, by top-level key."""

    form_errors: list[str]
    field_errors: dict[str, list[str]]


class InvalidPayloadBody(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook body that was refused."""

    error: str = "Invalid payload"
    details: str | FieldErrors


class Issue(msgspec.Struct, frozen=True):
    """One problem of a request."""

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
"""One of each body a status may have."""


def documented_errors(*statuses: int) -> dict[int, ResponseSpec]:
    """OpenAPI entries for the errors of a route; 413 implies 408 and 415, also about bodies."""
    bodies: dict[int, tuple[Any, str]] = {
        400: (
            ValidationBody | ErrorBody,
            "Of another schema, a number out of range, nested too deeply, or not JSON.",
        ),
        401: (ErrorBody, "A missing or unknown key."),
        403: (ErrorBody, "A known key without permission for this."),
        404: (ErrorBody, "It does not exist."),
        408: (ErrorBody, "The body did not arrive in time."),
        409: (ErrorBody, "The stored credential cannot be decrypted."),
        413: (ErrorBody, "The body is too large, or would take too much memory once decoded."),
        415: (ErrorBody, "The body is encoded in another way than gzip."),
        429: (ErrorBody, "Too many requests; see Retry-After."),
        502: (RefusalBody, "PostHog refused, or cannot be reached."),
        503: (
            TypedErrorBody,
            "A dependency is unavailable, or NATS does not let it be asked; see Retry-After.",
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
    """`documented_errors` for a route that needs an admin key and asks a service over NATS."""
    return documented_errors(*statuses, 400, 401, 403, 429, 503)


_OF_REFUSAL = {"precondition": HTTP_409_CONFLICT, "posthog": HTTP_502_BAD_GATEWAY}


def refusal_response(refusal: Refusal | None) -> Response[Any]:
    """Answer with why a service did not do what it was asked for.

    Raises:
        ValueError: there is no refusal, and so neither that nor an outcome.
    """
    if refusal is None:
        raise ValueError("the reply has neither an outcome nor a refusal")
    body = RefusalBody(
        error=refusal.code,
        detail=msgspec.UNSET if refusal.detail is None else refusal.detail,
        remediation=msgspec.UNSET if refusal.remediation is None else refusal.remediation,
    )
    return Response(body, status_code=_OF_REFUSAL[refusal.reason], media_type=MediaType.JSON)


def _answer(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> Any:
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=headers)


def _http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Any:
    return _answer(error.status_code, ErrorBody(error.detail), error.headers)


def _method_not_allowed(_request: Request[Any, Any, Any], _error: HTTPException) -> Any:
    return _answer(404, ErrorBody("Not Found"))


def _invalid_request(_request: Request[Any, Any, Any], error: ValidationException) -> Any:
    extra: Any = error.extra if isinstance(error.extra, list) else []
    if any(item["message"] == NO_BODY for item in extra):
        return _answer(400, ErrorBody(MALFORMED))
    issues = [Issue(item["message"], str(item.get("key", "")).split(".")) for item in extra]
    return _invalid(issues or [Issue(error.detail, [])])


def _invalid_body(_request: Request[Any, Any, Any], error: InvalidBodyError) -> Any:
    problem = str(error)
    code = "invalid_type" if problem == REQUIRED else "custom"
    return _invalid([Issue(problem, error.path, code)])


def _invalid(issues: list[Issue]) -> Any:
    message = json.dumps(msgspec.to_builtins(issues))
    return _answer(400, ValidationBody(error=ZodError(message=message)))


def _malformed_body(_request: Request[Any, Any, Any], _error: MalformedBodyError) -> Any:
    return _answer(400, ErrorBody(MALFORMED))


def _malformed_webhook(_request: Request[Any, Any, Any], _error: MalformedJSONError) -> Any:
    return _answer(400, InvalidPayloadBody(details="Malformed JSON"))


def _invalid_webhook(_request: Request[Any, Any, Any], error: InvalidPayloadError) -> Any:
    problem = str(error)
    details = (
        FieldErrors([], {error.field: [problem]}) if error.field else FieldErrors([problem], {})
    )
    return _answer(400, InvalidPayloadBody(details=details))


def _hogsend_error(_request: Request[Any, Any, Any], error: HogsendError) -> Any:
    if isinstance(error, InvalidRequest):
        return _invalid([Issue(str(error), [])])
    if error.status == HTTP_500_INTERNAL_SERVER_ERROR:
        return _internal_error(_request, error)
    if error.status == HTTP_503_SERVICE_UNAVAILABLE:
        return _unavailable(error)
    return _answer(error.status, ErrorBody(str(error)))


def _unavailable(error: HogsendError) -> Any:
    metrics.FAILURES.labels("gateway", error.code).inc()
    fix = error.fix if isinstance(error, Forbidden) else None
    log.warning("answered 503", reason=str(error), **({"fix": fix} if fix else {}))
    body = TypedErrorBody(str(error), error.code, fix or msgspec.UNSET)
    return _answer(error.status, body, RETRY_AFTER)


def _not_offered(_request: Request[Any, Any, Any], error: NotOfferedError) -> Any:
    return _answer(501, TypedErrorBody(str(error), "not_offered"))


def _internal_error(_request: Request[Any, Any, Any], error: Exception) -> Any:
    metrics.FAILURES.labels("gateway", type(error).__name__).inc()
    log.error("request failed", exc_info=error)
    return _answer(500, ErrorBody("Internal Server Error"))


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
