"""`/v1/admin/backfills`: events from before the connection; see `docs/backfill.md`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar import Controller, MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter

from hogsend.contract.backfills import (
    PROVISIONER_BACKFILL,
    PROVISIONER_BACKFILLS,
    PROVISIONER_CANCEL_BACKFILL,
    Backfill,
    BackfillList,
    BackfillRef,
    EventName,
    StartBackfill,
)
from hogsend.contract.base import Empty
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_only, admin_or_reader
from services.gateway.error_responses import RefusalBody, admin_errors, refusal_response
from services.gateway.timestamps import Timestamp, parse_timestamp

REFUSED = "There is no credential for PostHog, or another backfill runs."


class NewBackfill(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Which events are wanted.

    An unknown key is refused: ignoring a misspelt filter would bring more than was meant.
    """

    source: Literal["posthog"] = "posthog"
    since: Timestamp
    until: Timestamp | None = None
    """Only events before it; now when it is missing."""
    events: Annotated[list[EventName], msgspec.Meta(max_length=100)] = []
    """Only events of these names; all when it is empty."""
    announce: bool = False
    """Whether subscribers hear of events that are new here."""

    def wanted(self, *, dry_run: bool = False) -> StartBackfill:
        """As the provisioner is asked.

        Raises:
            InvalidRequest: a time is none.
        """
        return StartBackfill(
            since=parse_timestamp(self.since, "since"),
            until=None if self.until is None else parse_timestamp(self.until, "until"),
            events=self.events,
            announce=self.announce,
            dry_run=dry_run,
        )


class BackfillCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a backfill would read; nothing was started."""

    count: int


class BackfillsController(Controller):
    """Events from before the connection, brought here afterwards."""

    path = "/v1/admin/backfills"
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @post(
        guards=[admin_only],
        status_code=200,
        operation_id="startBackfill",
        summary="Bring events of the past from PostHog",
        responses={
            200: ResponseSpec(Backfill, description="It runs."),
            409: ResponseSpec(RefusalBody, description=REFUSED),
            **admin_errors(400, 413, 502),
        },
    )
    async def start_backfill(
        self, data: JSONBody[NewBackfill], bus: NamedDependency[Connection]
    ) -> Response[Backfill | RefusalBody]:
        """Start a backfill, or go on with one for the same events that did not finish."""
        reply = await bus.request(PROVISIONER_BACKFILL, data.wanted())
        if reply.backfill is None:
            return refusal_response(reply.refusal)
        return Response(reply.backfill, media_type=MediaType.JSON)

    @post(
        "/count",
        guards=[admin_only],
        status_code=200,
        operation_id="countBackfill",
        summary="Count what a backfill would read",
        responses={
            200: ResponseSpec(BackfillCount, description="How many events PostHog has."),
            409: ResponseSpec(RefusalBody, description=REFUSED),
            **admin_errors(400, 413, 502),
        },
    )
    async def count_backfill(
        self, data: JSONBody[NewBackfill], bus: NamedDependency[Connection]
    ) -> Response[BackfillCount | RefusalBody]:
        """Let PostHog count, and start nothing."""
        reply = await bus.request(PROVISIONER_BACKFILL, data.wanted(dry_run=True))
        if reply.count is None:
            return refusal_response(reply.refusal)
        return Response(BackfillCount(count=reply.count), media_type=MediaType.JSON)

    @get(
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="listBackfills",
        summary="List the latest backfills",
        responses=admin_errors(),
    )
    async def list_backfills(self, bus: NamedDependency[Connection]) -> BackfillList:
        """List the latest twenty backfills and how far they are, the latest first."""
        return await bus.request(PROVISIONER_BACKFILLS, Empty())

    @post(
        "/{backfill_id:str}/cancel",
        guards=[admin_only],
        status_code=200,
        operation_id="cancelBackfill",
        summary="Stop a backfill",
        responses=admin_errors(404),
    )
    async def cancel_backfill(
        self,
        backfill_id: Annotated[str, PathParameter(max_length=64)],
        bus: NamedDependency[Connection],
    ) -> Backfill:
        """Stop a backfill; what it brought stays, and starting it again goes on from there."""
        return await bus.request(PROVISIONER_CANCEL_BACKFILL, BackfillRef(id=backfill_id))
