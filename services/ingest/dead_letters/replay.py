"""Replays dead letters: publishes their messages again on the streams they came from.

The order is the guarantee: publish, wait for JetStream's acknowledgement, and only then delete the
letter. After a crash in between the letter still exists, and its next replay repeats the message.
JetStream drops the repetition within its deduplication window. Later on, consumers drop it that
deduplicate by `contract.headers.message_id`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from hogsend.contract import subjects
from hogsend.contract.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    DeadLettersDone,
    KeptDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.errors import (
    Forbidden,
    HogsendError,
    InvalidRequest,
    NotFound,
    PublishRejected,
    TooLarge,
    Unavailable,
)
from hogsend.contract.headers import MESSAGE_ID, ORIGINAL_ID, RECEIVED_AT, message_id
from hogsend.contract.moments import read_moment
from hogsend.contract.partitions import PARTITIONED, has_slot
from hogsend.contract.persons import position_id
from hogsend.contract.registry import channels
from hogsend.contract.streams import StreamName
from hogsend.contract.users import DEAD_LETTER_KEEPER
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.dead_letters.admin import BUDGET_SECONDS, DeadLetterAdmin, matches
from services.ingest.dead_letters.stream import DeadLetterStream, Letter
from services.ingest.erasure.freshness import is_stale

log = structlog.get_logger(__name__)

IN_FLIGHT = 64
"""Most letters that are replayed at the same time; they are published in order of sequence."""

_EXPECTED_STREAM = "Nats-Expected-Stream"
_CONTROL_HEADERS = "nats-"
_NO_NEWLINES = str.maketrans("\r\n", "  ")


class NotReplayed(HogsendError):
    """A letter stays: its message was not published, or the letter could not be deleted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Replayer:
    """Publishes the messages of letters again, and deletes the letters."""

    def __init__(
        self, publisher: Publisher, letters: DeadLetterStream, admin: DeadLetterAdmin
    ) -> None:
        self._publisher = publisher
        self._letters = letters
        self._admin = admin

    async def replay(self, request: ReplayDeadLetters) -> DeadLettersDone:
        """Replay the matching letters that exist when the replay starts.

        Letters that cannot be replayed are kept, and counted by reason.

        Raises:
            InvalidRequest: the letter `sequence` cannot be replayed, or `stream` is not a valid
                name of a stream.
            NotFound: no dead letter has the sequence `sequence`, or it does not match.
            Unavailable: JetStream does not answer, and nothing was replayed.
        """
        if request.sequence is not None:
            done = await self._replay_one(request)
        else:
            done = await self._replay_all(request)
        log.info(
            "dead letters replayed",
            count=done.count,
            kept=sum(kept.count for kept in done.kept),
            seq=request.sequence,
            stream=request.stream,
            reason=request.reason,
        )
        return done

    async def _replay_one(self, request: ReplayDeadLetters) -> DeadLettersDone:
        read_at = _now()
        letter = await self._admin.get(request)
        try:
            await self._replay_letter(letter, read_at)
        except NotReplayed as why:
            if why.reason in {"unavailable", "not_deleted"}:
                raise Unavailable(str(why)) from why
            raise InvalidRequest(f"dead letter {letter.sequence} stays: {why}") from why
        return DeadLettersDone(count=1)

    async def _replay_all(self, request: ReplayDeadLetters) -> DeadLettersDone:
        extent = await self._letters.extent(request.stream)
        kept: dict[str, KeptDeadLetters] = {}
        count, more, deadline = 0, False, time.monotonic() + BUDGET_SECONDS
        read_at = _now()
        async for batch in self._letters.read(extent.first, extent.last, request.stream):
            matching = [letter for letter in batch if matches(letter, request)]
            for start in range(0, len(matching), IN_FLIGHT):
                if more := time.monotonic() > deadline:
                    break
                window = matching[start : start + IN_FLIGHT]
                count += await self._replay_window(window, kept, read_at)
            if more:
                break
            read_at = _now()
        if not count and "unavailable" in kept:
            raise Unavailable(kept["unavailable"].detail)
        return DeadLettersDone(count=count, kept=list(kept.values()), more=more)

    async def _replay_window(
        self, letters: Sequence[Letter], kept: dict[str, KeptDeadLetters], read_at: float
    ) -> int:
        """Replay letters at the same time.

        Args:
            letters: at most `IN_FLIGHT`.
            kept: letters that are not replayed are added to it, by reason.
            read_at: seconds on the event loop's clock, before the letters were read.

        Returns:
            How many were replayed.
        """
        outcomes = await asyncio.gather(
            *(self._replay_letter(letter, read_at) for letter in letters), return_exceptions=True
        )
        for letter, outcome in zip(letters, outcomes, strict=True):
            if isinstance(outcome, NotReplayed):
                before = kept.get(outcome.reason)
                kept[outcome.reason] = KeptDeadLetters(
                    reason=outcome.reason,
                    detail=before.detail if before else str(outcome),
                    count=before.count + 1 if before else 1,
                    first_sequence=before.first_sequence if before else letter.sequence,
                )
            elif outcome is not None and not isinstance(outcome, NotFound):
                raise outcome
        return outcomes.count(None)

    async def _replay_letter(self, letter: Letter, read_at: float) -> None:
        """Publish a letter's message, then delete the letter.

        Two requests may replay the same letter at the same time. Both publish it with the same
        message id, so JetStream stores it once, and either may delete the letter.

        Args:
            letter: the letter.
            read_at: seconds on the event loop's clock, before the letter was read.

        Raises:
            NotReplayed: its message was not published, or the letter could not be deleted.
            NotFound: the letter was deleted after it was read.
        """
        content = (await self._fresh(letter, read_at)).content
        _require_replayable(content)
        try:
            await self._publisher.publish(
                OutgoingMessage(content.subject, content.body, _headers(letter))
            )
        except TooLarge as error:
            raise NotReplayed("too_large", f"with its headers it is too large: {error}") from error
        except PublishRejected as error:
            raise NotReplayed(
                "refused", f"the stream {content.stream} refuses it: {error}"
            ) from error
        except Unavailable as error:
            problem = f"the stream {content.stream} does not take it now, or does not exist"
            raise NotReplayed("unavailable", problem) from error
        try:
            await self._letters.delete(letter.sequence)
        except (Unavailable, Forbidden) as error:
            problem = "it was replayed but could not be deleted; replaying it again does no harm"
            raise NotReplayed("not_deleted", problem) from error

    async def _fresh(self, letter: Letter, read_at: float) -> Letter:
        """Read a stale letter again: an erasure may have deleted it since.

        Nothing may be awaited between this and the publish. Otherwise a process that is frozen in
        between would publish an erased person's message after the last sweep of the erasure.

        Raises:
            NotFound: the letter was deleted.
            NotReplayed: it cannot be read now.
        """
        while is_stale(read_at):
            read_at = _now()
            try:
                letter = await self._admin.get(DeadLetterFilter(sequence=letter.sequence))
            except Unavailable as error:
                raise NotReplayed("unavailable", str(error)) from error
        return letter


def _now() -> float:
    return asyncio.get_running_loop().time()


def _require_replayable(content: DeadLetter) -> None:
    if not content.body:
        raise NotReplayed(
            "no_body", "it does not hold its message, which was too large for the bus"
        )
    for channel in channels():
        if (
            subjects.is_literal(content.subject)
            and channel.stream == content.stream
            and DEAD_LETTER_KEEPER in channel.publishers
            and subjects.covers(channel.subject, content.subject)
            and (channel.subject != PARTITIONED or has_slot(content.subject))
        ):
            return
    raise NotReplayed(
        "not_replayable",
        f"no stream {content.stream} takes {content.subject or 'a message without a subject'} back",
    )


def _stand_in_id(content: DeadLetter) -> str:
    """The id that consumers derived from a message's place in its stream; empty if it had an id.

    The replayed message has another place. It names this id, so that it stays the same message.
    """
    if content.stream == StreamName.ENGAGEMENT:
        return ":".join(content.id.split(":")[:2])
    sequence = content.id.removeprefix(f"{content.stream}:").partition(":")[0]
    queued_at = read_moment(content.headers.get(RECEIVED_AT))
    if content.stream == StreamName.PERSONS and sequence.isdecimal() and queued_at is not None:
        return position_id(int(sequence), queued_at)
    return ""


def _headers(letter: Letter) -> dict[str, str]:
    """The original headers, without those that control how JetStream stores a message."""
    content = letter.content
    kept = {
        name: value.translate(_NO_NEWLINES)
        for name, value in content.headers.items()
        if not name.lower().startswith(_CONTROL_HEADERS)
    }
    return {
        **kept,
        # A stream that was deleted and created again counts from 1. The time makes the id unique.
        MESSAGE_ID: f"replay:{letter.sequence}:{content.failed_at.timestamp():.6f}",
        ORIGINAL_ID: message_id(content.headers) or _stand_in_id(content),
        _EXPECTED_STREAM: content.stream,
    }
