"""`/v1/admin/deadletters`: messages that could not be processed; see `docs/deadletters.md`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from hogsend.contract.dead_letters import (
    INGEST_DEAD_LETTERS,
    INGEST_PURGE,
    INGEST_REPLAY,
    DeadLetterPage,
    DeadLettersDone,
    ListDeadLetters,
    ListedDeadLetter,
    PurgeDeadLetters,
    ReplayDeadLetters,
)
from hogsend.contract.errors import InvalidRequest
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_only, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Limit

_LARGEST = 2**63 - 1

Sequence = Annotated[
    int,
    PathParameter(
        ge=1, le=_LARGEST, description="Sequence number of the letter in the stream DEADLETTER."
    ),
]
STREAM = QueryParameter(
    min_length=1,
    max_length=255,
    description="Only letters whose message was on this stream, for example `WEBHOOKS`.",
)
REASON = QueryParameter(
    min_length=1,
    max_length=255,
    description="Only letters with this reason, for example `malformed`.",
)
BEFORE = QueryParameter(
    ge=1,
    le=_LARGEST,
    description="Cursor: `nextBefore` of the previous page. Only letters with a smaller sequence "
    "number.",
)
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Position = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]


class DeadLetterSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Selects the dead letters that match all given filters.

    An unknown key is refused, because ignoring a misspelt filter would select more than intended.
    """

    sequence: Position | None = None
    """Sequence number of one letter in the stream DEADLETTER."""
    stream: Text | None = None
    """Stream that the message was on, for example `WEBHOOKS`."""
    reason: Text | None = None
    """Reason of the letter, for example `malformed`."""
    all: bool | msgspec.UnsetType = msgspec.UNSET
    """Selects every dead letter. Cannot be combined with a filter."""

    def check(self) -> None:
        """Require either filters or `all`.

        Raises:
            InvalidRequest: neither or both are given.
        """
        filtered = (self.sequence, self.stream, self.reason) != (None, None, None)
        if bool(self.all) == filtered:
            raise InvalidRequest(
                'give sequence, stream or reason, or {"all": true} alone for every dead letter'
            )


class DeadLettersController(Controller):
    """Messages that could not be processed."""

    path = "/v1/admin/deadletters"
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @get(
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="listDeadLetters",
        summary="List dead letters, newest first",
        responses=admin_errors(400),
    )
    async def list_dead_letters(
        self,
        bus: NamedDependency[Connection],
        stream: Annotated[str | None, STREAM] = None,
        reason: Annotated[str | None, REASON] = None,
        limit: Limit = DEFAULT_LIMIT,
        before: Annotated[int | None, BEFORE] = None,
    ) -> DeadLetterPage:
        """List dead letters without their messages. A page may have fewer entries than `limit`.

        `nextBefore` is the value of `before` for the next page, and null on the last page.
        """
        query = ListDeadLetters(stream=stream, reason=reason, limit=limit, before=before)
        return await bus.request(INGEST_DEAD_LETTERS, query)

    @get(
        "/{sequence:int}",
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="getDeadLetter",
        summary="Show a dead letter and its message",
        responses=admin_errors(400, 404),
    )
    async def get_dead_letter(
        self, sequence: Sequence, bus: NamedDependency[Connection]
    ) -> ListedDeadLetter:
        """Show one dead letter, with its message as text."""
        page = await bus.request(INGEST_DEAD_LETTERS, ListDeadLetters(sequence=sequence))
        return page.dead_letters[0]

    @post(
        "/replay",
        guards=[admin_only],
        status_code=200,
        operation_id="replayDeadLetters",
        summary="Replay dead letters",
        responses=admin_errors(400, 404, 413),
    )
    async def replay_dead_letters(
        self, data: JSONBody[DeadLetterSelection], bus: NamedDependency[Connection]
    ) -> DeadLettersDone:
        """Republish dead letters to their original streams. A letter that is refused is kept."""
        data.check()
        replay = ReplayDeadLetters(sequence=data.sequence, stream=data.stream, reason=data.reason)
        return await bus.request(INGEST_REPLAY, replay)

    @post(
        "/purge",
        guards=[admin_only],
        status_code=200,
        operation_id="purgeDeadLetters",
        summary="Purge dead letters",
        responses=admin_errors(400, 404, 413),
    )
    async def purge_dead_letters(
        self, data: JSONBody[DeadLetterSelection], bus: NamedDependency[Connection]
    ) -> DeadLettersDone:
        """Delete dead letters and their messages permanently."""
        data.check()
        purge = PurgeDeadLetters(sequence=data.sequence, stream=data.stream, reason=data.reason)
        return await bus.request(INGEST_PURGE, purge)

    @post(
        "/{sequence:int}/replay",
        guards=[admin_only],
        status_code=200,
        operation_id="replayDeadLetter",
        summary="Replay one dead letter",
        responses=admin_errors(400, 404),
    )
    async def replay_dead_letter(
        self, sequence: Sequence, bus: NamedDependency[Connection]
    ) -> DeadLettersDone:
        """Republish one dead letter to its original stream."""
        return await bus.request(INGEST_REPLAY, ReplayDeadLetters(sequence=sequence))

    @delete(
        "/{sequence:int}",
        guards=[admin_only],
        status_code=200,
        operation_id="purgeDeadLetter",
        summary="Purge one dead letter",
        responses=admin_errors(400, 404),
    )
    async def purge_dead_letter(
        self, sequence: Sequence, bus: NamedDependency[Connection]
    ) -> DeadLettersDone:
        """Delete one dead letter and its message permanently."""
        return await bus.request(INGEST_PURGE, PurgeDeadLetters(sequence=sequence))
