"""`/v1/admin/backfills`: imports PostHog's events of the past; see `docs/backfill.md`."""

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

REFUSED = "There is no credential for PostHog, or another backfill is running."


class NewBackfill(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Which events to import.

    An unknown key is refused, because ignoring a misspelt filter would import more than intended.
    """

    source: Literal["posthog"] = "posthog"
    since: Timestamp
    """Only events that happened at this time or later. ISO 8601 date and time with `Z` or an
    offset, upper case."""
    until: Timestamp | None = None
    """Only events before this time; by default now."""
    events: Annotated[list[EventName], msgspec.Meta(max_length=100)] = []
    """Only events with these names; empty means all."""
    announce: bool = False
    """Whether new events are published to subscribers."""

    def message(self, *, dry_run: bool = False) -> StartBackfill:
        """Return the message to the provisioner.

        Raises:
            InvalidRequest: a time is not valid.
        """
        return StartBackfill(
            since=parse_timestamp(self.since, "since"),
            until=None if self.until is None else parse_timestamp(self.until, "until"),
            events=self.events,
            announce=self.announce,
            dry_run=dry_run,
        )


class BackfillCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many events a backfill would read."""

    count: int
    """Number of matching events in PostHog."""


class BackfillsController(Controller):
    """Imports of PostHog's events of the past."""

    path = "/v1/admin/backfills"
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @post(
        guards=[admin_only],
        status_code=200,
        operation_id="startBackfill",
        summary="Import events of the past from PostHog",
        responses={
            200: ResponseSpec(Backfill, description="The backfill is running."),
            409: ResponseSpec(RefusalBody, description=REFUSED),
            **admin_errors(400, 413, 502),
        },
    )
    async def start_backfill(
        self, data: JSONBody[NewBackfill], bus: NamedDependency[Connection]
    ) -> Response[Backfill | RefusalBody]:
        """Start a backfill, or continue one for the same events that did not finish."""
        reply = await bus.request(PROVISIONER_BACKFILL, data.message())
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
            200: ResponseSpec(BackfillCount, description="The number of matching events."),
            409: ResponseSpec(RefusalBody, description=REFUSED),
            **admin_errors(400, 413, 502),
        },
    )
    async def count_backfill(
        self, data: JSONBody[NewBackfill], bus: NamedDependency[Connection]
    ) -> Response[BackfillCount | RefusalBody]:
        """Have PostHog count the events, without starting a backfill."""
        reply = await bus.request(PROVISIONER_BACKFILL, data.message(dry_run=True))
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
        """List the latest twenty backfills and their progress, newest first."""
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
        backfill_id: Annotated[
            str, PathParameter(max_length=64, description="Id of the backfill.")
        ],
        bus: NamedDependency[Connection],
    ) -> Backfill:
        """Stop a backfill. Imported events are kept, and starting it again continues from there."""
        return await bus.request(PROVISIONER_CANCEL_BACKFILL, BackfillRef(id=backfill_id))
