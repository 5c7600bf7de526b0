"""Lists and purges dead letters, for admins."""

from __future__ import annotations

import time
from collections import deque

import msgspec
import structlog

from hogsend.contract.dead_letters import (
    DeadLetterFilter,
    DeadLetterPage,
    DeadLettersDone,
    ListDeadLetters,
    ListedDeadLetter,
    PurgeDeadLetters,
)
from hogsend.contract.errors import NotFound
from services.ingest.dead_letters.stream import DeadLetterStream, Letter

log = structlog.get_logger(__name__)

BUDGET_SECONDS = 45.0
"""How long one request may process letters; less than the deadline of its endpoint."""

_MAX_SEQUENCE = 2**63 - 1
_DETAIL_CHARACTERS = 1000
_FRAMING_BYTES = 2048
"""Bytes of a reply that are set aside for its headers and for the fields around the letters."""
_FIRST_WINDOW = 128
"""Sequences of the first window that is read from the end of the stream, at least."""


class DeadLetterAdmin:
    """Lists and purges dead letters; every reply fits into one message of NATS."""

    def __init__(self, letters: DeadLetterStream) -> None:
        self._letters = letters

    async def page(self, request: ListDeadLetters) -> DeadLetterPage:
        """List the letters that match, newest first; as many as fit into one reply.

        Raises:
            InvalidRequest: `stream` is not a valid name of a stream.
            NotFound: no dead letter has the sequence `sequence`, or it does not match.
            Unavailable: JetStream does not answer.
        """
        max_bytes = self._letters.max_payload - _FRAMING_BYTES
        if request.sequence is not None:
            return DeadLetterPage(
                dead_letters=[_with_body(await self.get(request), max_bytes)], total=1
            )
        extent = await self._letters.extent(request.stream)
        last = extent.last if request.before is None else min(extent.last, request.before - 1)
        # One more than requested shows whether there is another page.
        count = request.limit + 1
        if request.reason is None:
            letters = await self._newest(extent.first, last, request.stream, count)
            total = extent.count
        else:
            letters, total = await self._matching(extent.first, extent.last, request, last, count)
        listed = _fit(letters[: request.limit], max_bytes)
        more = len(letters) > len(listed)
        return DeadLetterPage(
            dead_letters=listed,
            total=total,
            next_before=listed[-1].sequence if more else None,
        )

    async def get(self, query: DeadLetterFilter) -> Letter:
        """Return the letter with the sequence `query.sequence`; raises like `page`."""
        sequence = query.sequence or 0
        if 0 < sequence <= _MAX_SEQUENCE:
            async for batch in self._letters.read(sequence, sequence, query.stream):
                if matches(batch[0], query):
                    return batch[0]
        raise NotFound(f"no dead letter {sequence} here: purged, replayed, or not one that matches")

    async def purge(self, request: PurgeDeadLetters) -> DeadLettersDone:
        """Delete the matching letters that exist when the purge starts; raises like `page`."""
        if request.sequence is not None:
            letter = await self.get(request)
            # Another request may have deleted the letter since, and counts it.
            if not await self._letters.delete(letter.sequence):
                raise NotFound(f"no dead letter {letter.sequence} here any more")
            done = DeadLettersDone(count=1)
        else:
            extent = await self._letters.extent(request.stream)
            if request.reason is None:
                done = DeadLettersDone(count=await self._letters.purge(extent.last, request.stream))
            else:
                done = await self._purge_each(extent.first, extent.last, request)
        log.info("dead letters purged", count=done.count, **_log_fields(request))
        return done

    async def _newest(
        self, first: int, last: int, origin: str | None, count: int
    ) -> list[ListedDeadLetter]:
        """Return up to `count` letters, newest first.

        JetStream reads forward only, so windows of sequences are read from the end of the stream.
        Each is twice as long as the one after it: purged and replayed letters leave gaps.
        """
        letters: list[ListedDeadLetter] = []
        window = max(count, _FIRST_WINDOW)
        while last >= first and len(letters) < count:
            start = max(first, last - window + 1)
            newest: deque[ListedDeadLetter] = deque(maxlen=count - len(letters))
            async for batch in self._letters.read(start, last, origin):
                newest.extend(_listed(letter) for letter in batch)
            letters += reversed(newest)
            last, window = start - 1, 2 * window
        return letters

    async def _matching(
        self, first: int, end: int, request: ListDeadLetters, last: int, count: int
    ) -> tuple[list[ListedDeadLetter], int]:
        """Read all letters, because only a letter itself contains its reason.

        Returns:
            The newest `count` matching letters up to the sequence `last`, and the number of all
            matching letters.
        """
        newest: deque[ListedDeadLetter] = deque(maxlen=count)
        total = 0
        async for batch in self._letters.read(first, end, request.stream):
            matching = [letter for letter in batch if matches(letter, request)]
            total += len(matching)
            newest.extend(_listed(letter) for letter in matching if letter.sequence <= last)
        return list(reversed(newest)), total

    async def _purge_each(
        self, first: int, last: int, request: PurgeDeadLetters
    ) -> DeadLettersDone:
        count, deadline = 0, time.monotonic() + BUDGET_SECONDS
        async for batch in self._letters.read(first, last, request.stream):
            for letter in batch:
                if matches(letter, request):
                    count += await self._letters.delete(letter.sequence)
                if time.monotonic() > deadline:
                    return DeadLettersDone(count=count, more=True)
        return DeadLettersDone(count=count)


def matches(letter: Letter, query: DeadLetterFilter) -> bool:
    """Whether a letter has the reason of `query`; JetStream filters by stream of origin."""
    return query.reason is None or letter.content.reason == query.reason


def _log_fields(query: DeadLetterFilter) -> dict[str, int | str | None]:
    return {"seq": query.sequence, "stream": query.stream, "reason": query.reason}


def _listed(letter: Letter) -> ListedDeadLetter:
    content = letter.content
    return ListedDeadLetter(
        sequence=letter.sequence,
        stream=content.stream,
        subject=content.subject,
        reason=content.reason,
        detail=content.detail[:_DETAIL_CHARACTERS],
        attempts=content.attempts,
        failed_at=content.failed_at,
        size=len(content.body),
    )


def _fit(letters: list[ListedDeadLetter], max_bytes: int) -> list[ListedDeadLetter]:
    """The first letters that together fit into `max_bytes`; at least one."""
    fitting: list[ListedDeadLetter] = []
    for letter in letters:
        max_bytes -= len(msgspec.json.encode(letter)) + 1
        if max_bytes < 0 and fitting:
            break
        fitting.append(letter)
    return fitting


def _with_body(letter: Letter, max_bytes: int) -> ListedDeadLetter:
    """The letter with its body as text, cut off where it does not fit into `max_bytes`."""
    listed = _listed(letter)
    max_bytes -= len(msgspec.json.encode(listed))
    text = letter.content.body.decode(errors="replace")
    cut = False
    # A character takes one to six bytes in JSON, so the text is cut in proportion until it fits.
    while (size := len(msgspec.json.encode(text))) > max_bytes:
        text, cut = text[: len(text) * max_bytes // size], True
    return msgspec.structs.replace(listed, body=text, cut=cut)
