"""Typed errors that cross the bus and become HTTP responses at the gateway.

Each class has a stable `code`. A service raises the class, the header `Nats-Service-Error-Code`
(NATS ADR-32) carries the code, and the caller's client raises the same class. The gateway responds
with the class's `status`.
"""

from __future__ import annotations

from typing import ClassVar


class HogsendError(Exception):
    """Base class of Hogsend's errors. The message is safe to show to an operator."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    """HTTP status of the response. The audit trail records it for requests over the bus, too."""


class InvalidRequest(HogsendError):
    """The request is invalid: it cannot succeed unless the caller changes it."""

    code = "invalid_request"
    status = 400


class ConsumerConflict(InvalidRequest):
    """A durable consumer of that name exists with another configuration. Nothing was changed."""

    code = "consumer_conflict"


class NotFound(HogsendError):
    """The requested resource does not exist."""

    code = "not_found"
    status = 404


class CannotUnseal(HogsendError):
    """A stored secret exists, but no configured sealing secret can decrypt it."""

    code = "cannot_unseal"
    status = 409


class GrantReplaced(HogsendError):
    """The stored grant was replaced or deleted while this request was processed."""

    code = "grant_replaced"
    status = 409


class Unavailable(HogsendError):
    """A dependency is unavailable; the same request may succeed later."""

    code = "unavailable"
    status = 503


class Forbidden(HogsendError):
    """The NATS user of this process may not use a subject: `deploy/nats` is not up to date."""

    code = "forbidden"
    # Not 403, which would tell the HTTP client that its key has too few rights.
    status = 503
    fix: ClassVar[str] = "bring NATS' configuration up to date with deploy/nats (docs/deploy.md)"
    """What an operator can do about it."""


class TooLarge(HogsendError):
    """A message is larger than the maximum of the NATS server or of its stream."""

    code = "too_large"
    status = 413


class PublishRejected(HogsendError):
    """JetStream rejected a message permanently."""

    code = "publish_rejected"


class SpoolFull(HogsendError):
    """The gateway can neither reach the bus nor store another delivery on disk."""

    code = "spool_full"
    # Not 503, which makes proxies consider the gateway down. PostHog retries both three times.
    status = 429


class UnreadableReply(HogsendError):
    """A service's reply cannot be decoded by this process."""

    code = "unreadable_reply"


class CannotStart(HogsendError):
    """A service cannot run with its configuration. The message states what to change."""

    code = "cannot_start"


def sentence(text: str) -> str:
    """Turn an error message into a sentence: a capital letter first, a full stop at the end."""
    return f"{text[:1].upper()}{text[1:]}."


BY_CODE: dict[str, type[HogsendError]] = {
    error.code: error
    for error in (
        HogsendError,
        InvalidRequest,
        ConsumerConflict,
        NotFound,
        CannotUnseal,
        GrantReplaced,
        Unavailable,
        Forbidden,
        TooLarge,
        PublishRejected,
        SpoolFull,
        UnreadableReply,
    )
}
"""The errors that cross the bus, by code."""


def from_code(code: str, message: str) -> HogsendError:
    """Build the error that a service raised from the code and message of its reply."""
    return BY_CODE.get(code, HogsendError)(message)


def status_of(code: str) -> int:
    """HTTP status of the error with that code; 500 for an unknown code."""
    return BY_CODE.get(code, HogsendError).status
