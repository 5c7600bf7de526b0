"""`/v1/admin/deadletters`: messages that could not be processed; see `docs/deadletters.md`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, delete, get, post
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
from services.gateway.auth import admin_only, admin_or_reader
from services.gateway.error_responses import documented
from services.gateway.response_headers import correlation

_LARGEST = 2**63 - 1

Sequence = Annotated[int, PathParameter(ge=1, le=_LARGEST)]
Filter = Annotated[str | None, QueryParameter(min_length=1, max_length=255)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Position = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]


class DeadLetterSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are meant: all that match every filter given.

    A key nobody knows is refused, as without the filter it was meant to be more would match.
    """

    sequence: Position | None = None
    stream: Text | None = None
    reason: Text | None = None
    all: bool = False
    """Said instead of a filter: every dead letter there is."""


class DeadLettersController(Controller):
    """Messages that could not be processed."""

    path = "/v1/admin/deadletters"
    tags = ["Admin"]  # noqa: RUF012 - litestar reads class attributes
    security = [{"adminKey": []}]  # noqa: RUF012

    @get(
        guards=[admin_or_reader],
        operation_id="listDeadLetters",
        summary="List dead letters, newest first",
        responses=documented(400, 401, 403, 429, 503),
    )
    async def page(  # noqa: PLR0917 - one parameter a query key
        self,
        bus: NamedDependency[Connection],
        request: Request[Any, Any, Any],
        stream: Filter = None,
        reason: Filter = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        before: Annotated[int | None, QueryParameter(ge=1, le=_LARGEST)] = None,
    ) -> DeadLetterPage:
        """List dead letters without their messages; a page may hold fewer than `limit`.

        `nextBefore` is the `before` of the next page, and null on the last.
        """
        wanted = ListDeadLetters(stream=stream, reason=reason, limit=limit, before=before)
        return await bus.request(INGEST_DEAD_LETTERS, wanted, headers=correlation(request))

    @get(
        "/{sequence:int}",
        guards=[admin_or_reader],
        operation_id="getDeadLetter",
        summary="Show a dead letter and its message",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def show(
        self, sequence: Sequence, bus: NamedDependency[Connection], request: Request[Any, Any, Any]
    ) -> ListedDeadLetter:
        """Show one dead letter, with its message as text."""
        wanted = ListDeadLetters(sequence=sequence)
        page = await bus.request(INGEST_DEAD_LETTERS, wanted, headers=correlation(request))
        return page.dead_letters[0]

    @post(
        "/replay",
        guards=[admin_only],
        status_code=200,
        operation_id="replayDeadLetters",
        summary="Replay dead letters",
        responses=documented(400, 401, 403, 404, 413, 429, 503),
    )
    async def replay(
        self,
        data: JSONBody[DeadLetterSelection],
        bus: NamedDependency[Connection],
        request: Request[Any, Any, Any],
    ) -> DeadLettersDone:
        """Put letters back on the streams they came from; what cannot go back is kept."""
        wanted = _selected(data)
        return await bus.request(
            INGEST_REPLAY,
            ReplayDeadLetters(sequence=wanted.sequence, stream=wanted.stream, reason=wanted.reason),
            headers=correlation(request),
        )

    @post(
        "/purge",
        guards=[admin_only],
        status_code=200,
        operation_id="purgeDeadLetters",
        summary="Purge dead letters",
        responses=documented(400, 401, 403, 404, 413, 429, 503),
    )
    async def purge(
        self,
        data: JSONBody[DeadLetterSelection],
        bus: NamedDependency[Connection],
        request: Request[Any, Any, Any],
    ) -> DeadLettersDone:
        """Forget letters and their messages for good."""
        wanted = _selected(data)
        return await bus.request(
            INGEST_PURGE,
            PurgeDeadLetters(sequence=wanted.sequence, stream=wanted.stream, reason=wanted.reason),
            headers=correlation(request),
        )

    @post(
        "/{sequence:int}/replay",
        guards=[admin_only],
        status_code=200,
        operation_id="replayDeadLetter",
        summary="Replay one dead letter",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def replay_one(
        self, sequence: Sequence, bus: NamedDependency[Connection], request: Request[Any, Any, Any]
    ) -> DeadLettersDone:
        """Put one letter back on the stream it came from."""
        wanted = ReplayDeadLetters(sequence=sequence)
        return await bus.request(INGEST_REPLAY, wanted, headers=correlation(request))

    @delete(
        "/{sequence:int}",
        guards=[admin_only],
        status_code=200,
        operation_id="purgeDeadLetter",
        summary="Purge one dead letter",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def purge_one(
        self, sequence: Sequence, bus: NamedDependency[Connection], request: Request[Any, Any, Any]
    ) -> DeadLettersDone:
        """Forget one letter and its message for good."""
        wanted = PurgeDeadLetters(sequence=sequence)
        return await bus.request(INGEST_PURGE, wanted, headers=correlation(request))


def _selected(data: DeadLetterSelection) -> DeadLetterSelection:
    filtered = (data.sequence, data.stream, data.reason) != (None, None, None)
    if data.all == filtered:
        raise InvalidRequest(
            'say which: sequence, stream or reason, or {"all": true} alone for every dead letter'
        )
    return data
