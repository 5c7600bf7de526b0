"""Typed errors that travel over the bus and map to HTTP answers at the gateway.

Each class carries a stable `code`; a service raises the class, the code crosses the bus in the
`Nats-Service-Error-Code` header (NATS ADR-32), and the caller gets the same class back.
Its `status` is the one place that says which HTTP status answers it.
"""

from __future__ import annotations

from typing import ClassVar


class HogsendError(Exception):
    """Something Hogsend can name went wrong. The message is safe to show to an operator."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    """HTTP status that it is answered with, and recorded with where it was asked over the bus."""


class InvalidRequest(HogsendError):
    """The caller sent something that can never succeed as it is."""

    code = "invalid_request"
    status = 400


class ConsumerConflict(InvalidRequest):
    """A durable consumer exists and reads something else; nothing was changed."""

    code = "consumer_conflict"


class NotFound(HogsendError):
    """The thing asked for does not exist."""

    code = "not_found"
    status = 404


class CannotUnseal(HogsendError):
    """A stored secret exists but cannot be decrypted with any configured sealing secret."""

    code = "cannot_unseal"
    status = 409


class GrantReplaced(HogsendError):
    """Another grant was connected meanwhile, or the one that this began with was deleted."""

    code = "grant_replaced"
    status = 409


class Unavailable(HogsendError):
    """A dependency is unavailable; the same request may succeed later."""

    code = "unavailable"
    status = 503


class Forbidden(HogsendError):
    """The NATS user of this process may not use that subject: `deploy/nats` is not up to date."""

    code = "forbidden"
    # The HTTP client may do it, our service may not: 403 would say that the key is not enough.
    status = 503
    fix: ClassVar[str] = "bring NATS' configuration up to date with deploy/nats (docs/deploy.md)"
    """What an operator can do."""


class TooLarge(HogsendError):
    """A message is larger than the bus, or its stream, takes."""

    code = "too_large"
    status = 413


class PublishRejected(HogsendError):
    """JetStream answered that it will never take a message."""

    code = "publish_rejected"


class SpoolFull(HogsendError):
    """The gateway can neither reach the bus nor hold another delivery on disk."""

    code = "spool_full"
    # Not 503: proxies take a gateway that answers it for down. PostHog tries both three times.
    status = 429


class UnreadableReply(HogsendError):
    """A service answered in a shape that this process does not know."""

    code = "unreadable_reply"


class CannotStart(HogsendError):
    """A service cannot run as it is configured; the message says what to change."""

    code = "cannot_start"


def sentence(text: str) -> str:
    """Make what an error says a sentence among others."""
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
    """Rebuild the error a service raised from what crossed the bus."""
    return BY_CODE.get(code, HogsendError)(message)


def status_of(code: str) -> int:
    """HTTP status of the error with that code; 500 for one that is not known."""
    return BY_CODE.get(code, HogsendError).status
