"""The bodies errors are answered with (contract 0.1 and 5.1), and how failures become them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    ValidationException,
)
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_400_BAD_REQUEST
from litestar.types import ExceptionHandlersMap

from hogsend.contract.errors import (
    CannotUnseal,
    HogsendError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from hogsend.service import metrics
from services.gateway.webhooks.posthog import InvalidPayloadError, MalformedJSONError

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5
"""What `Retry-After` says when a dependency is away."""


class ErrorBody(msgspec.Struct, frozen=True):
    """Any refusal: one sentence."""

    error: str


class TypedErrorBody(msgspec.Struct, frozen=True):
    """A refusal a program can tell from others by its code."""

    error: str
    code: str


class RefusalBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was done in PostHog, and what an operator does about it."""

    error: str
    detail: str | msgspec.UnsetType = msgspec.UNSET
    remediation: str | msgspec.UnsetType = msgspec.UNSET


class ZodError(msgspec.Struct, frozen=True, kw_only=True):
    """The issues of a rejected admin request, as the JSON text the upstream CLI knows."""

    name: str = "ZodError"
    message: str


class ValidationBody(msgspec.Struct, frozen=True, kw_only=True):
    """An admin request that does not fit its schema."""

    success: bool = False
    error: ZodError


class FieldErrors(msgspec.Struct, frozen=True, rename="camel"):
    """What is wrong with a webhook body, by its top-level keys."""

    form_errors: list[str]
    field_errors: dict[str, list[str]]


class InvalidPayloadBody(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook body that was not accepted."""

    error: str = "Invalid payload"
    details: str | FieldErrors


class Issue(msgspec.Struct, frozen=True):
    """One thing wrong with a request."""

    message: str
    path: list[str]
    code: str = "custom"


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """OpenAPI entries for the refusals a route can answer with."""
    bodies: dict[int, tuple[Any, str]] = {
        400: (ValidationBody | ErrorBody, "The request does not fit its schema, or is no JSON."),
        401: (ErrorBody, "No key, or an unknown one."),
        403: (ErrorBody, "A known key that may not do this."),
        404: (ErrorBody, "There is no such thing."),
        408: (ErrorBody, "The body did not arrive in time."),
        409: (ErrorBody, "The stored credential cannot be decrypted."),
        413: (ErrorBody, "The body is too large."),
        429: (ErrorBody, "Too many requests; see Retry-After."),
        502: (RefusalBody, "PostHog refused, or could not be reached."),
        503: (TypedErrorBody, "A dependency is away; see Retry-After."),
    }
    if 413 in statuses:  # noqa: PLR2004 - whoever reads a body may wait for it in vain
        statuses = (*statuses, 408)
    return {
        status: ResponseSpec(
            data_container=bodies[status][0],
            description=bodies[status][1],
            generate_examples=False,
        )
        for status in statuses
    }


def _answer(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> Any:
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=headers)


def _http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Any:
    return _answer(error.status_code, ErrorBody(error.detail), error.headers)


def _method_not_allowed(_request: Request[Any, Any, Any], _error: HTTPException) -> Any:
    return _answer(404, ErrorBody("Not Found"))


def _client_error(_request: Request[Any, Any, Any], error: ClientException) -> Any:
    # Litestar reports a body it cannot parse as a plain 400.
    if error.status_code == HTTP_400_BAD_REQUEST:
        return _answer(400, ErrorBody("Malformed JSON in request body"))
    return _answer(error.status_code, ErrorBody(error.detail), error.headers)


def _invalid_request(_request: Request[Any, Any, Any], error: ValidationException) -> Any:
    extra: Any = error.extra if isinstance(error.extra, list) else []
    if any(item.get("key") == "data" for item in extra):
        # There is no body at all.
        return _answer(400, ErrorBody("Malformed JSON in request body"))
    issues = [Issue(item["message"], str(item.get("key", "")).split(".")) for item in extra]
    return _invalid(issues or [Issue(error.detail, [])])


def _invalid(issues: list[Issue]) -> Any:
    message = json.dumps(msgspec.to_builtins(issues))
    return _answer(400, ValidationBody(error=ZodError(message=message)))


def _too_deep(_request: Request[Any, Any, Any], _error: RecursionError) -> Any:
    # Only decoding a body recurses as deep as the client likes.
    return _answer(400, ErrorBody("Malformed JSON in request body"))


def _malformed_webhook(_request: Request[Any, Any, Any], _error: MalformedJSONError) -> Any:
    return _answer(400, InvalidPayloadBody(details="Malformed JSON"))


def _invalid_webhook(_request: Request[Any, Any, Any], error: InvalidPayloadError) -> Any:
    problem = str(error)
    details = (
        FieldErrors([], {error.field: [problem]}) if error.field else FieldErrors([problem], {})
    )
    return _answer(400, InvalidPayloadBody(details=details))


def _hogsend_error(_request: Request[Any, Any, Any], error: HogsendError) -> Any:
    match error:
        case NotFound():
            return _answer(404, ErrorBody(str(error)))
        case CannotUnseal():
            return _answer(409, ErrorBody(str(error)))
        case InvalidRequest():
            return _invalid([Issue(str(error), [])])
        case Unavailable():
            metrics.FAILURES.labels("gateway", error.code).inc()
            log.warning("answered 503", reason=str(error))
            retry = {"Retry-After": str(RETRY_SECONDS)}
            return _answer(503, TypedErrorBody(str(error), error.code), retry)
    return _internal_error(_request, error)


def _internal_error(_request: Request[Any, Any, Any], error: Exception) -> Any:
    metrics.FAILURES.labels("gateway", type(error).__name__).inc()
    log.error("request failed", exc_info=error)
    return _answer(500, ErrorBody("Internal Server Error"))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    HTTPException: _http_error,
    MethodNotAllowedException: _method_not_allowed,
    ClientException: _client_error,
    ValidationException: _invalid_request,
    RecursionError: _too_deep,
    MalformedJSONError: _malformed_webhook,
    InvalidPayloadError: _invalid_webhook,
    HogsendError: _hogsend_error,
    Exception: _internal_error,
}
