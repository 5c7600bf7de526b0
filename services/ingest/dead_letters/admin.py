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
"""How long one request may handle letter after letter; below its endpoint's deadline."""

_MAX_SEQUENCE = 2**63 - 1
_DETAIL_CHARACTERS = 1000
_FRAMING_BYTES = 2048
_WINDOW = 128


class DeadLetterAdmin:
    """Lists and purges the dead letters of a stream; every answer fits into one message."""

    def __init__(self, letters: DeadLetterStream) -> None:
        self._letters = letters

    async def page(self, wanted: ListDeadLetters) -> DeadLetterPage:
        """Letters that match, newest first; as many as fit into one answer.

        Raises:
            InvalidRequest: `stream` is not a valid name of a stream.
            NotFound: `sequence` is no dead letter, or does not match.
            Unavailable: JetStream does not answer.
        """
        room = self._letters.max_payload - _FRAMING_BYTES
        if wanted.sequence is not None:
            return DeadLetterPage(dead_letters=[_whole(await self.one(wanted), room)], total=1)
        extent = await self._letters.extent(wanted.stream)
        last = extent.last if wanted.before is None else min(extent.last, wanted.before - 1)
        # One more than asked for, to know whether there is another page.
        keep = wanted.limit + 1
        if wanted.reason is None:
            found, total = await self._newest(extent.first, last, wanted.stream, keep), extent.count
        else:
            found, total = await self._matching(extent.first, extent.last, wanted, last, keep)
        listed = _fitting(found[: wanted.limit], room)
        more = len(found) > len(listed)
        return DeadLetterPage(
            dead_letters=listed,
            total=total,
            next_before=listed[-1].sequence if more else None,
        )

    async def one(self, wanted: DeadLetterFilter) -> Letter:
        """The letter `wanted.sequence`; raises like `page`."""
        sequence = wanted.sequence or 0
        if 0 < sequence <= _MAX_SEQUENCE:
            async for batch in self._letters.read(sequence, sequence, wanted.stream):
                if matches(batch[0], wanted):
                    return batch[0]
        raise NotFound(f"no dead letter {sequence} here: purged, replayed, or not one that matches")

    async def purge(self, wanted: PurgeDeadLetters) -> DeadLettersDone:
        """Delete the letters that match and existed when this began; raises like `page`."""
        if wanted.sequence is not None:
            letter = await self.one(wanted)
            # Another request may have deleted it since it was read, and reports that.
            if not await self._letters.delete(letter.sequence):
                raise NotFound(f"no dead letter {letter.sequence} here any more")
            done = DeadLettersDone(count=1)
        else:
            extent = await self._letters.extent(wanted.stream)
            if wanted.reason is None:
                done = DeadLettersDone(count=await self._letters.purge(extent.last, wanted.stream))
            else:
                done = await self._purge_each(extent.first, extent.last, wanted)
        log.info("dead letters purged", count=done.count, **_described(wanted))
        return done

    async def _newest(
        self, first: int, last: int, origin: str | None, keep: int
    ) -> list[ListedDeadLetter]:
        """Read windows of sequences, the newest first, until `keep` letters are found.

        JetStream reads forward only. Each window is twice as long as the one before, to cross the
        gaps that purged and replayed letters leave.
        """
        found: list[ListedDeadLetter] = []
        window = max(keep, _WINDOW)
        while last >= first and len(found) < keep:
            start = max(first, last - window + 1)
            newest: deque[ListedDeadLetter] = deque(maxlen=keep - len(found))
            async for batch in self._letters.read(start, last, origin):
                newest.extend(_listed(letter) for letter in batch)
            found += reversed(newest)
            last, window = start - 1, 2 * window
        return found

    async def _matching(
        self, first: int, end: int, wanted: ListDeadLetters, last: int, keep: int
    ) -> tuple[list[ListedDeadLetter], int]:
        """Read all letters, because the reason is only in the letter itself."""
        newest: deque[ListedDeadLetter] = deque(maxlen=keep)
        total = 0
        async for batch in self._letters.read(first, end, wanted.stream):
            matching = [letter for letter in batch if matches(letter, wanted)]
            total += len(matching)
            newest.extend(_listed(letter) for letter in matching if letter.sequence <= last)
        return list(reversed(newest)), total

    async def _purge_each(self, first: int, last: int, wanted: PurgeDeadLetters) -> DeadLettersDone:
        count, until = 0, time.monotonic() + BUDGET_SECONDS
        async for batch in self._letters.read(first, last, wanted.stream):
            for letter in batch:
                if matches(letter, wanted):
                    count += await self._letters.delete(letter.sequence)
                if time.monotonic() > until:
                    return DeadLettersDone(count=count, more=True)
        return DeadLettersDone(count=count)


def matches(letter: Letter, wanted: DeadLetterFilter) -> bool:
    """Whether a letter has the wanted reason; JetStream filters by stream of origin."""
    return wanted.reason is None or letter.content.reason == wanted.reason


def _described(wanted: DeadLetterFilter) -> dict[str, int | str | None]:
    return {"seq": wanted.sequence, "stream": wanted.stream, "reason": wanted.reason}


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


def _fitting(found: list[ListedDeadLetter], room: int) -> list[ListedDeadLetter]:
    fitting: list[ListedDeadLetter] = []
    for letter in found:
        room -= len(msgspec.json.encode(letter)) + 1
        if room < 0 and fitting:
            break
        fitting.append(letter)
    return fitting


def _whole(letter: Letter, room: int) -> ListedDeadLetter:
    listed = _listed(letter)
    room -= len(msgspec.json.encode(listed))
    text = letter.content.body.decode(errors="replace")
    cut = False
    # A character takes one to six bytes as JSON, so cut in proportion until the text fits.
    while (size := len(msgspec.json.encode(text))) > room:
        text, cut = text[: len(text) * room // size], True
    return msgspec.structs.replace(listed, body=text, cut=cut)
