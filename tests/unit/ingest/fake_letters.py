"""A fake of the stream of dead letters, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.errors import Unavailable
from services.ingest.dead_letters.stream import DeadLetterStream, Extent, Letter, subject_of

FAILED_AT = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 5
"""Letters in a batch; few, so that tests read several batches."""


class FakeLetters(DeadLetterStream):
    """Dead letters by their sequence, with gaps where letters were deleted."""

    def __init__(self, max_payload: int = 1024 * 1024) -> None:
        self.letters: dict[int, DeadLetter] = {}
        self.last = 0
        self.reads: list[tuple[int, int]] = []
        self.delete_error: Unavailable | None = None
        self.overtaken = False
        """Whether another request deletes each letter before `delete` does."""
        self._limit = max_payload

    @property
    def max_payload(self) -> int:
        return self._limit

    def add(
        self,
        stream: str = "WEBHOOKS",
        subject: str = "hogsend.webhooks.posthog",
        reason: str = "outage",
        body: bytes = b"{}",
        **headers: str,
    ) -> int:
        self.last += 1
        self.letters[self.last] = DeadLetter(
            id=f"{stream}:{self.last}",
            stream=stream,
            subject=subject,
            reason=reason,
            detail="the database was not available",
            attempts=3,
            failed_at=FAILED_AT,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            body=body,
        )
        return self.last

    async def extent(self, origin: str | None = None) -> Extent:
        return Extent(min(self.letters, default=self.last + 1), self.last, len(self._from(origin)))

    async def read(
        self, first: int, last: int, origin: str | None = None
    ) -> AsyncIterator[list[Letter]]:
        self.reads.append((first, last))
        matches = [
            Letter(sequence, letter)
            for sequence, letter in self._from(origin).items()
            if first <= sequence <= last
        ]
        for start in range(0, len(matches), BATCH):
            yield matches[start : start + BATCH]

    async def delete(self, sequence: int) -> bool:
        if self.delete_error is not None:
            raise self.delete_error
        return self.letters.pop(sequence, None) is not None and not self.overtaken

    async def purge(self, last: int, origin: str | None = None) -> int:
        purged = [sequence for sequence in self._from(origin) if sequence <= last]
        for sequence in purged:
            del self.letters[sequence]
        return len(purged)

    def _from(self, origin: str | None) -> dict[int, DeadLetter]:
        if origin is None:
            return dict(self.letters)
        subject_of(origin)
        return {
            sequence: letter for sequence, letter in self.letters.items() if letter.stream == origin
        }
