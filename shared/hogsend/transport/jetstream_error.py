"""The error object in a JetStream reply, and the Hogsend error it means for a publish."""

from __future__ import annotations

import msgspec

from hogsend.contract.errors import HogsendError, PublishRejected, TooLarge, Unavailable

NO_MESSAGE_FOUND = 10037
"""JetStream's code for a request of a message that is not in the stream."""
_TOO_LARGE = frozenset({10054, 10097})
"""JetStream's codes for a message that exceeds the limit of its stream, and for headers of more
than 64 KiB."""
_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
"""JetStream's codes for a subject whose last message is not the expected one."""
_PERMANENT = frozenset({400, 413})
"""Statuses that a retry does not change. Those of a full or missing stream are not among them."""
_FULL_ACCOUNT = 10002
"""JetStream's code for an account that has used up its storage. Its status is 400, although there
is storage again as soon as messages are consumed."""


class WrongLastSequence(PublishRejected):
    """The last message of the subject is not the expected one: another was published after it."""


class JetStreamError(msgspec.Struct, frozen=True):
    """The error of a JetStream API reply (NATS ADR-1)."""

    code: int
    """A status as in HTTP."""
    err_code: int = 0
    """JetStream's own code, which is more precise than the status."""
    description: str = ""


def publish_error(error: JetStreamError) -> HogsendError:
    """Return the error to raise for a message that was not stored.

    Returns:
        `Unavailable` where the same message may be published again. Otherwise `TooLarge`,
        `WrongLastSequence` or `PublishRejected`.
    """
    if error.err_code in _TOO_LARGE:
        return TooLarge(f"JetStream refuses: {error.description}")
    if error.err_code in _WRONG_LAST_SEQUENCE:
        return WrongLastSequence("another message was published on the subject meanwhile")
    if error.code in _PERMANENT and error.err_code != _FULL_ACCOUNT:
        return PublishRejected(f"JetStream refuses: {error.description}")
    return Unavailable(f"JetStream refuses for now: {error.description}")
