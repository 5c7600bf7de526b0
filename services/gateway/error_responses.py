"""Bodies of error responses (contract 0.1 and 5.1), and their descriptions in OpenAPI."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import MediaType, Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.status_codes import (
    HTTP_408_REQUEST_TIMEOUT,
    HTTP_409_CONFLICT,
    HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    HTTP_415_UNSUPPORTED_MEDIA_TYPE,
    HTTP_502_BAD_GATEWAY,
)

from hogsend.contract.provisioning import Refusal

MALFORMED = "Malformed JSON in request body"


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
