"""Errors of PostHog's API, in the format of the package drf-exceptions-hog."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec


class ApiErrorBody(msgspec.Struct, frozen=True):
    """An error: codes for programs (`type`, `code`), a text (`detail`) and a field (`attr`)."""

    type: str
    code: str
    detail: str
    attr: str | None = None


class ApiError(Exception):
    """The API refuses a request."""

    def __init__(
        self, status: int, body: ApiErrorBody, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body.detail)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def invalid(detail: str, attr: str | None = None, code: str = "invalid_input") -> ApiError:
    """A field has an invalid value; nested field names are joined with `__`."""
    return ApiError(400, ApiErrorBody("validation_error", code, detail, attr))


def required(attr: str) -> ApiError:
    """A required field is missing."""
    return invalid("This field is required.", attr, "required")


def parse_error(detail: str) -> ApiError:
    """The body is not JSON."""
    return ApiError(400, ApiErrorBody("invalid_request", "parse_error", detail))


def unauthenticated() -> ApiError:
    """The request has no credential."""
    detail = "Authentication credentials were not provided."
    body = ApiErrorBody("authentication_error", "not_authenticated", detail)
    return ApiError(401, body, {"WWW-Authenticate": "Bearer"})


def authentication_failed(detail: str) -> ApiError:
    """The credential is unknown or has expired."""
    body = ApiErrorBody("authentication_error", "authentication_failed", detail)
    return ApiError(401, body, {"WWW-Authenticate": "Bearer"})


def permission_denied(detail: str) -> ApiError:
    """The credential does not permit this."""
    return ApiError(403, ApiErrorBody("authentication_error", "permission_denied", detail))


def not_found(detail: str = "Not found.") -> ApiError:
    """The resource does not exist."""
    return ApiError(404, ApiErrorBody("invalid_request", "not_found", detail))


def method_not_allowed(detail: str) -> ApiError:
    """The path does not support the method."""
    return ApiError(405, ApiErrorBody("invalid_request", "method_not_allowed", detail))


def throttled(wait: float) -> ApiError:
    """There were too many requests. The text is that of Django REST framework."""
    seconds = math.ceil(wait)
    unit = "second" if seconds == 1 else "seconds"
    detail = f"Request was throttled. Expected available in {seconds} {unit}."
    body = ApiErrorBody("throttled_error", "throttled", detail)
    return ApiError(429, body, {"Retry-After": str(seconds)})


def server_error(status: int = 500) -> ApiError:
    """The server failed."""
    return ApiError(status, ApiErrorBody("server_error", "error", "A server error occurred."))
