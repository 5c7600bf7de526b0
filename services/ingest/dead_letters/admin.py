"""What admins do with dead letters besides replaying them: look at them, and forget them."""

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
from hogsend.transport.connection import Connection
from services.ingest.dead_letters.stream import DeadLetterStream, Letter

log = structlog.get_logger(__name__)

BUDGET_SECONDS = 45.0
"""How long one request goes on with letter after letter; below its endpoint's deadline."""

_MAX_SEQUENCE = 2**63 - 1
_DETAIL_CHARACTERS = 1000
_FRAMING_BYTES = 2048
_WINDOW = 128


class DeadLetterAdmin:
    """Lists and purges what lies in the stream of dead letters."""

    def __init__(self, bus: Connection, letters: DeadLetterStream) -> None:
        """Read `letters`; answers are made to fit what `bus` carries."""
        self._bus = bus
        self._letters = letters

    async def page(self, wanted: ListDeadLetters) -> DeadLetterPage:
        """Letters that match, newest first; as many as fit into one answer.

        Raises:
            InvalidRequest: `stream` cannot be the name of a stream.
            NotFound: the one letter asked for is gone, or does not match.
            Unavailable: JetStream does not answer.
        """
        room = self._bus.max_payload - _FRAMING_BYTES
        if wanted.sequence is not None:
            return DeadLetterPage(dead_letters=[_whole(await self.one(wanted), room)], total=1)
        extent = await self._letters.extent(wanted.stream)
        last = extent.last if wanted.before is None else min(extent.last, wanted.before - 1)
        # One more than asked for tells whether there is another page.
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
        """Exactly the letter `wanted.sequence`; raises like `page`."""
        sequence = wanted.sequence or 0
        if 0 < sequence <= _MAX_SEQUENCE:
            async for batch in self._letters.read(sequence, sequence, wanted.stream):
                if matches(batch[0], wanted):
                    return batch[0]
        raise NotFound(f"no dead letter {sequence} here: purged, replayed, or not one that matches")

    async def purge(self, wanted: PurgeDeadLetters) -> DeadLettersDone:
        """Forget the letters that match and were there when this began; raises like `page`."""
        if wanted.sequence is not None:
            letter = await self.one(wanted)
            # Whoever was faster is the one to report it.
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
        """Go back in windows that double, as JetStream only reads forward, until `keep` are found.

        Doubling also crosses the gaps that purged and replayed letters leave.
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
        """Read everything: only inside a letter stands why it is one."""
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
    """Whether a letter is meant; that it came from the right stream was asked of JetStream."""
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
    # JSON needs up to six bytes for a character, so how many fit shows only in trying.
    while (size := len(msgspec.json.encode(text))) > room:
        text, cut = text[: len(text) * room // size], True
    return msgspec.structs.replace(listed, body=text, cut=cut)
