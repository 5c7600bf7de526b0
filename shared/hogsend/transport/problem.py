"""What JetStream says is wrong with a request, and which of our errors that is for a publish."""

from __future__ import annotations

import msgspec

from hogsend.contract.errors import HogsendError, PublishRejected, TooLarge, Unavailable

NO_MESSAGE = 10037
"""JetStream's code for a message that a stream does not have."""
_TOO_LARGE = frozenset({10054, 10097})
"""JetStream's codes for a message larger than its stream allows, and for headers of more than
64 KiB."""
_OVERTAKEN = frozenset({10071, 10164})
"""JetStream's codes for another last message of the subject than the one that was expected."""
_PERMANENT = frozenset({400, 413})
"""Status codes that another attempt will not change; a full or missing stream is not among them."""
_FULL_ACCOUNT = 10002
"""JetStream's code for an account that has stored all that it may. Its status is 400 nevertheless,
although there is room again as soon as something is consumed."""


class Overtaken(PublishRejected):
    """Another message has come onto the subject since the one with the expected sequence."""


class Problem(msgspec.Struct, frozen=True):
    """The error of an answer (NATS ADR-1)."""

    code: int
    """A status as in HTTP."""
    err_code: int = 0
    """JetStream's own code, which tells more than the status."""
    description: str = ""


def publish_error(problem: Problem) -> HogsendError:
    """Why a message was not stored.

    Returns:
        `Unavailable` if it may be published again as it is. Otherwise `TooLarge`, `Overtaken`, or
        `PublishRejected`.
    """
    if problem.err_code in _TOO_LARGE:
        return TooLarge(f"JetStream refuses: {problem.description}")
    if problem.err_code in _OVERTAKEN:
        return Overtaken("another message was published on the subject meanwhile")
    if problem.code in _PERMANENT and problem.err_code != _FULL_ACCOUNT:
        return PublishRejected(f"JetStream refuses: {problem.description}")
    return Unavailable(f"JetStream refuses for now: {problem.description}")
