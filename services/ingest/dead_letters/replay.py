"""Putting dead letters back on the streams they came from.

The order is the promise: publish, wait until JetStream has it, and only then delete the letter. A
crash in between leaves the letter, and replaying it again is a repeat that is dropped: for a while
by JetStream, for ever by whoever goes by `hogsend.message_id`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from hogsend.contract.dead_letters import (
    DeadLetter,
    DeadLettersDone,
    KeptDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.errors import (
    HogsendError,
    InvalidRequest,
    PublishRejected,
    TooLarge,
    Unavailable,
)
from hogsend.contract.headers import MESSAGE_ID, ORIGINAL_ID, message_id
from hogsend.contract.registry import channels
from hogsend.contract.users import DEAD_LETTER_KEEPER
from hogsend.transport.connection import Connection
from services.ingest.dead_letters.admin import BUDGET_SECONDS, DeadLetterAdmin, matches
from services.ingest.dead_letters.stream import DeadLetterStream, Letter

log = structlog.get_logger(__name__)

IN_FLIGHT = 64
"""Letters replayed at a time; they reach their stream in the order they were set aside."""

_EXPECTED_STREAM = "Nats-Expected-Stream"
_CONTROL_HEADERS = "nats-"
_NO_NEWLINES = str.maketrans("\r\n", "  ")


class Kept(HogsendError):
    """A letter that stays where it is."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Replayer:
    """Publishes letters' messages again, and deletes those that arrived."""

    def __init__(self, bus: Connection, letters: DeadLetterStream, admin: DeadLetterAdmin) -> None:
        """Publish on `bus` what lies in `letters`."""
        self._bus = bus
        self._letters = letters
        self._admin = admin

    async def replay(self, wanted: ReplayDeadLetters) -> DeadLettersDone:
        """Replay what matches and was there when this began; what cannot be replayed is kept.

        Raises:
            InvalidRequest: the one letter asked for cannot be replayed, or `stream` is no name.
            NotFound: the one letter asked for is gone, or does not match.
            Unavailable: JetStream does not answer, and nothing was replayed.
        """
        if wanted.sequence is not None:
            done = await self._replay_one(wanted)
        else:
            done = await self._replay_all(wanted)
        log.info(
            "dead letters replayed",
            count=done.count,
            kept=sum(kept.count for kept in done.kept),
            seq=wanted.sequence,
            stream=wanted.stream,
            reason=wanted.reason,
        )
        return done

    async def _replay_one(self, wanted: ReplayDeadLetters) -> DeadLettersDone:
        letter = await self._admin.one(wanted)
        try:
            await self._put_back(letter)
        except Kept as why:
            if why.reason in {"unavailable", "not_deleted"}:
                raise Unavailable(str(why)) from why
            raise InvalidRequest(f"dead letter {letter.sequence} stays: {why}") from why
        return DeadLettersDone(count=1)

    async def _replay_all(self, wanted: ReplayDeadLetters) -> DeadLettersDone:
        extent = await self._letters.extent(wanted.stream)
        kept: dict[str, KeptDeadLetters] = {}
        count, more, until = 0, False, time.monotonic() + BUDGET_SECONDS
        async for batch in self._letters.read(extent.first, extent.last, wanted.stream):
            matching = [letter for letter in batch if matches(letter, wanted)]
            for start in range(0, len(matching), IN_FLIGHT):
                if more := time.monotonic() > until:
                    break
                count += await self._put_back_together(matching[start : start + IN_FLIGHT], kept)
            if more:
                break
        if not count and "unavailable" in kept:
            raise Unavailable(kept["unavailable"].detail)
        return DeadLettersDone(count=count, kept=list(kept.values()), more=more)

    async def _put_back_together(
        self, letters: Sequence[Letter], kept: dict[str, KeptDeadLetters]
    ) -> int:
        """Put letters back; returns how many, and adds the others to `kept`."""
        outcomes = await asyncio.gather(
            *(self._put_back(letter) for letter in letters), return_exceptions=True
        )
        for letter, outcome in zip(letters, outcomes, strict=True):
            if isinstance(outcome, Kept):
                before = kept.get(outcome.reason)
                kept[outcome.reason] = KeptDeadLetters(
                    reason=outcome.reason,
                    detail=before.detail if before else str(outcome),
                    count=before.count + 1 if before else 1,
                    first_sequence=before.first_sequence if before else letter.sequence,
                )
            elif outcome is not None:
                raise outcome
        return outcomes.count(None)

    async def _put_back(self, letter: Letter) -> None:
        """Publish, then delete.

        Two that do this to the same letter publish it under the same id, so that it arrives once;
        which of them then deletes it does not matter.

        Raises:
            Kept: it was not published, or could not be deleted.
        """
        content = letter.content
        _require_replayable(content)
        headers = _headers(letter)
        if _size(content.body, headers) > self._bus.max_payload:
            raise Kept("too_large", "with its headers it is larger than NATS takes")
        try:
            await self._bus.publish(content.subject, content.body, headers)
        except (PublishRejected, TooLarge) as error:
            raise Kept("refused", f"the stream {content.stream} refuses it: {error}") from error
        except Unavailable as error:
            problem = f"the stream {content.stream} does not take it now, or does not exist"
            raise Kept("unavailable", problem) from error
        try:
            await self._letters.delete(letter.sequence)
        except Unavailable as error:
            problem = "it was replayed but could not be deleted; replaying it again does no harm"
            raise Kept("not_deleted", problem) from error


def _require_replayable(content: DeadLetter) -> None:
    if not content.body:
        raise Kept("no_body", "it does not hold its message, which was too large for the bus")
    for channel in channels():
        if (
            channel.stream == content.stream
            and DEAD_LETTER_KEEPER in channel.publishers
            and _covers(channel.subject, content.subject)
        ):
            return
    raise Kept(
        "not_replayable",
        f"no stream {content.stream} takes {content.subject or 'a message without a subject'} back",
    )


def _covers(pattern: str, subject: str) -> bool:
    tokens, wanted = subject.split("."), pattern.split(".")
    if not all(token and token.isprintable() and not set(token) & set(" *>") for token in tokens):
        return False
    if wanted[-1] == ">":
        wanted = wanted[:-1] + ["*"] * max(len(tokens) - len(wanted) + 1, 1)
    return len(tokens) == len(wanted) and all(
        theirs in {"*", ours} for theirs, ours in zip(wanted, tokens, strict=True)
    )


def _headers(letter: Letter) -> dict[str, str]:
    """The original headers, without what tells JetStream how to store it, which was for then."""
    content = letter.content
    kept = {
        name: value.translate(_NO_NEWLINES)
        for name, value in content.headers.items()
        if not name.lower().startswith(_CONTROL_HEADERS)
    }
    return {
        **kept,
        # The time tells letters apart should the stream be made anew and count from 1 again.
        MESSAGE_ID: f"replay:{letter.sequence}:{content.failed_at.timestamp():.6f}",
        ORIGINAL_ID: message_id(content.headers) or "",
        _EXPECTED_STREAM: content.stream,
    }


def _size(body: bytes, headers: dict[str, str]) -> int:
    lines = sum(len(name) + len(value.encode()) + len(": \r\n") for name, value in headers.items())
    return len(body) + lines + len("NATS/1.0\r\n\r\n")
