"""The acknowledgements that one publishing caller waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hogsend.contract.errors import HogsendError, Unavailable

Outcome = HogsendError | None
"""Result of publishing one message: None when JetStream has stored it."""


class PendingAcks:
    """The outcomes of one caller's messages, as they arrive."""

    __slots__ = (
        "deadline",
        "done",
        "failure",
        "latest",
        "missing",
        "outcomes",
        "sequence",
        "subjects",
    )

    def __init__(self, subjects: Sequence[str], deadline: float, latest: float) -> None:
        """Start without an outcome.

        Args:
            subjects: subject of each message of the caller.
            deadline: when the messages fail without an acknowledgement, by JetStream's clock: the
                event loop's clock less all lag of the loop.
            latest: when the messages fail at any lag, by the event loop's clock.
        """
        self.subjects = subjects
        self.outcomes: list[Outcome] = [None] * len(subjects)
        self.missing = len(subjects)
        """How many messages have no outcome yet."""
        self.deadline = deadline
        self.latest = latest
        self.sequence = 0
        """Stream sequence in the last acknowledgement."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failure = ""
        """Why some messages have no outcome although `done` is set."""

    def settle(self, index: int, outcome: Outcome) -> None:
        """Set the outcome of one message."""
        self.outcomes[index] = outcome
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        """End the caller's wait although some outcomes are missing."""
        if not self.done.done():
            self.failure = reason
            self.done.set_result(None)

    async def wait(self) -> None:
        """Wait until every message has its outcome.

        Raises:
            Unavailable: some outcomes are missing, after `fail`.
        """
        await self.done
        if self.failure:
            raise Unavailable(self.failure)

    def result(self) -> int:
        """Return the stream sequence of the only message, or raise its outcome."""
        raise_outcome(self.outcomes, 0)
        return self.sequence


def raise_outcome(outcomes: list[Outcome], index: int) -> None:
    """Raise an outcome if it is an error, and remove it from the list.

    The traceback of a raised error refers to every frame that it passed through. A frame that in
    turn refers to the error would keep all of them, and the caller's request, in memory until the
    next garbage collection.
    """
    outcome, outcomes[index] = outcomes[index], None
    try:
        if outcome is not None:
            raise outcome
    finally:
        del outcome
