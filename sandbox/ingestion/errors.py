"""Refusals of capture, in its words (rust/capture/src/api.rs and token.rs)."""

from __future__ import annotations


class CaptureError(Exception):
    """Answered as plain text."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def undecodable(reason: str) -> CaptureError:
    """A body whose encoding is broken."""
    return CaptureError(400, f"failed to decode request: {reason}")


def unparseable(reason: str) -> CaptureError:
    """A body that is not the JSON it should be."""
    return CaptureError(400, f"failed to parse request: {reason}")


def bad_event(reason: str) -> CaptureError:
    """An event that lacks something."""
    return CaptureError(400, reason)


def bad_token(reason: str) -> CaptureError:
    """No project key, or something that cannot be one."""
    return CaptureError(401, reason)


def check_token(token: str | None) -> str:
    """Check the form of a project key; whether it is known is found out later, not here.

    Raises:
        CaptureError: it cannot be a project key.
    """
    if token is None:
        raise bad_token("event submitted without an api_key")
    token = token.strip()
    problems = {
        "empty": not token,
        "too_long": len(token) > 64,  # noqa: PLR2004
        "not_ascii": not token.isascii(),
        "personal_api_key": token.startswith("phx_"),
        "null_byte": "\0" in token,
    }
    for reason, applies in problems.items():
        if applies:
            raise bad_token(f"API key is not valid: {reason}")
    return token
