"""Errors of capture, with PostHog's messages (rust/capture/src/api.rs and token.rs)."""

from __future__ import annotations

MAX_TOKEN_BYTES = 64


class CaptureError(Exception):
    """Capture refuses a request. The response is plain text."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class BatchError(Exception):
    """Capture v1 refuses a whole request."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error


def empty_payload() -> CaptureError:
    """The request has neither a body nor `data`."""
    return CaptureError(400, "request missing data payload")


def undecodable(reason: str) -> CaptureError:
    """The body cannot be decompressed or decoded."""
    return CaptureError(400, f"failed to decode request: {reason}")


def unparseable(reason: str) -> CaptureError:
    """The body is not the expected JSON."""
    return CaptureError(400, f"failed to parse request: {reason}")


def nameless() -> CaptureError:
    """An event has no name, which only `/engage` accepts."""
    reason = "non-engage request missing event name attribute"
    return CaptureError(400, f"failed to hydrate events from request: {reason}")


def bad_event(reason: str) -> CaptureError:
    """An event lacks a required field."""
    return CaptureError(400, reason)


def too_big(reason: str) -> CaptureError:
    """A request is too large, or an event does not fit into a message of the pipeline."""
    return CaptureError(413, f"maximum event size exceeded: {reason}")


def bad_token(reason: str) -> CaptureError:
    """The project key is missing or malformed."""
    return CaptureError(401, reason)


def check_token(token: str | None) -> str:
    """Validate the format of a project key, not whether the key exists.

    Raises:
        CaptureError: the key is missing or malformed.
    """
    if token is None:
        raise bad_token("event submitted without an api_key")
    token = token.strip()
    problems = {
        "empty": not token,
        "too_long": len(token.encode()) > MAX_TOKEN_BYTES,
        "not_ascii": not token.isascii(),
        "personal_api_key": token.startswith("phx_"),
        "null_byte": "\0" in token,
    }
    for reason, applies in problems.items():
        if applies:
            raise bad_token(f"API key is not valid: {reason}")
    return token
