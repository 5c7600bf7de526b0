"""The headers of a request of capture v1 (rust/capture/src/v1/context.rs)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sandbox.ingestion.errors import BatchError, CaptureError, check_token
from sandbox.ingestion.requests import read_uuid
from sandbox.ingestion.timestamps import rfc3339

MAX_SDK_INFO_BYTES = 200
"""A longer `PostHog-Sdk-Info` is not used for `$lib`."""

REQUIRED_HEADERS = (
    "PostHog-Sdk-Info",
    "PostHog-Attempt",
    "PostHog-Request-Id",
    "PostHog-Request-Timestamp",
    "content-type",
    "user-agent",
)
MAX_ATTEMPT_DIGITS = 10
"""PostHog reads `PostHog-Attempt` as a 32-bit number."""
BEARER = "bearer "
INVALID_HEADER = "invalid_header_value"


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """The headers of a request."""

    token: str
    encoding: str
    sent_at: float
    """The client's time when it sent the request."""
    library: dict[str, str]
    """`$lib` and `$lib_version`."""


def read_headers(headers: Mapping[str, str]) -> Sender:
    """Validate the headers of a request.

    Raises:
        BatchError: a header is missing or invalid.
    """
    if "authorization" not in headers:
        raise BatchError(401, "missing_authorization", "request is missing authorization")
    if missing := [name for name in REQUIRED_HEADERS if name.lower() not in headers]:
        names = msgspec.json.encode(missing).decode()
        description = f"request is missing required headers: {names}"
        raise BatchError(400, "missing_required_headers", description)
    token = _token(headers["authorization"])
    kind = headers["content-type"]
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise BatchError(415, "unsupported_content_type", f"unsupported content type: {kind}")
    try:
        read_uuid(headers["posthog-request-id"])
    except ValueError:
        raise _invalid_header("PostHog-Request-Id is not a valid UUID") from None
    attempt = headers["posthog-attempt"]
    if not (attempt.isdecimal() and len(attempt) <= MAX_ATTEMPT_DIGITS and int(attempt) >= 1):
        raise _invalid_header(f"PostHog-Attempt must be a positive integer: {attempt}")
    sent_at = rfc3339(headers["posthog-request-timestamp"])
    if sent_at is None:
        raise _invalid_header("PostHog-Request-Timestamp is not valid RFC 3339")
    return Sender(
        token=token,
        encoding=headers.get("content-encoding", "").lower(),
        sent_at=sent_at,
        library=_library(headers["posthog-sdk-info"]),
    )


def _token(authorization: str) -> str:
    if not authorization.lower().startswith(BEARER):
        raise _invalid_header("Authorization must use Bearer scheme")
    try:
        return check_token(authorization[len(BEARER) :])
    except CaptureError:
        raise BatchError(401, "invalid_api_token", "The provided API token is not valid.") from None


def _library(sdk_info: str) -> dict[str, str]:
    name, _, version = (part.strip() for part in sdk_info.rpartition("/"))
    if not name or not version or len(sdk_info) > MAX_SDK_INFO_BYTES:
        return {}
    return {"$lib": name, "$lib_version": version}


def _invalid_header(problem: str) -> BatchError:
    return BatchError(400, INVALID_HEADER, f"invalid header value: {problem}")
