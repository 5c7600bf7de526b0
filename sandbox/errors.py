"""PostHog's error bodies, as the package drf-exceptions-hog makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec


class ApiErrorBody(msgspec.Struct, frozen=True):
    """What is wrong, for programs (`type`, `code`), people (`detail`) and forms (`attr`)."""

    type: str
    code: str
    detail: str
    attr: str | None = None


class ApiError(Exception):
    """A request the API refuses."""

    def __init__(
        self, status: int, body: ApiErrorBody, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body.detail)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def invalid(detail: str, attr: str | None = None, code: str = "invalid_input") -> ApiError:
    """A field that does not hold what it must; nested fields are joined with `__`."""
    return ApiError(400, ApiErrorBody("validation_error", code, detail, attr))


def required(attr: str) -> ApiError:
    """A field that is missing."""
    return invalid("This field is required.", attr, "required")


def parse_error(detail: str) -> ApiError:
    """A body that is not JSON."""
    return ApiError(400, ApiErrorBody("invalid_request", "parse_error", detail))


def unauthenticated() -> ApiError:
    """No credential."""
    detail = "Authentication credentials were not provided."
    body = ApiErrorBody("authentication_error", "not_authenticated", detail)
    return ApiError(401, body, {"WWW-Authenticate": "Bearer"})


def not_accepted(detail: str) -> ApiError:
    """A credential that is unknown or has expired."""
    body = ApiErrorBody("authentication_error", "authentication_failed", detail)
    return ApiError(401, body, {"WWW-Authenticate": "Bearer"})


def denied(detail: str) -> ApiError:
    """A credential that may not do this."""
    return ApiError(403, ApiErrorBody("authentication_error", "permission_denied", detail))


def not_found(detail: str = "Not found.") -> ApiError:
    """There is no such thing."""
    return ApiError(404, ApiErrorBody("invalid_request", "not_found", detail))


def not_allowed(detail: str) -> ApiError:
    """A method that this path does not have."""
    return ApiError(405, ApiErrorBody("invalid_request", "method_not_allowed", detail))


def throttled(wait: float) -> ApiError:
    """Too many requests; the same sentence as Django REST framework's."""
    seconds = math.ceil(wait)
    unit = "second" if seconds == 1 else "seconds"
    detail = f"Request was throttled. Expected available in {seconds} {unit}."
    body = ApiErrorBody("throttled_error", "throttled", detail)
    return ApiError(429, body, {"Retry-After": str(seconds)})


def server_error(status: int = 500) -> ApiError:
    """Something failed inside."""
    return ApiError(status, ApiErrorBody("server_error", "error", "A server error occurred."))
