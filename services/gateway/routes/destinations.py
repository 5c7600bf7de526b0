"""`/v1/admin/webhooks`: outbound destinations (contract 6.6); see `docs/destinations.md`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from hogsend.contract.base import Properties
from hogsend.contract.credentials import Deleted
from hogsend.contract.destinations import (
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_DELETE_DESTINATION,
    ANALYTICS_DELIVERIES,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    ANALYTICS_TEST_DESTINATION,
    ChangeDestination,
    CreateDestination,
    DeliveryPage,
    DeliveryStatus,
    DestinationKind,
    DestinationPage,
    DestinationRef,
    ListDeliveries,
    ListDestinations,
    OutboundDestination,
    TestQueued,
)
from hogsend.contract.errors import InvalidRequest
from hogsend.transport.connection import Connection
from services.gateway.auth import admin_only, admin_or_reader
from services.gateway.error_responses import documented
from services.gateway.response_headers import correlation

AnyRequest = Request[Any, Any, Any]
TheBus = NamedDependency[Connection]
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
EventTypes = Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]
Description = Annotated[str, msgspec.Meta(max_length=500)]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]
Offset = Annotated[int, QueryParameter(ge=0, le=1_000_000)]


class NewDestination(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where engagement shall go."""

    url: Url
    event_types: EventTypes
    description: Description | None = None
    disabled: bool = False
    kind: DestinationKind = "posthog"
    config: Properties = {}
    """`apiKey`, `host`, `eventNames`, `syncPersons`, `unsubscribedPropertyKey`."""

    def __repr__(self) -> str:
        """Name the kind; the config may hold a key."""
        return f"NewDestination(kind={self.kind!r})"


class DestinationChanges(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What shall be different; the rest stays.

    A `config` replaces the stored one, but keeps its `apiKey` unless it gives another or null.
    """

    url: Url | msgspec.UnsetType = msgspec.UNSET
    event_types: EventTypes | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    config: Properties | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        """Say nothing; the config may hold a key."""
        return "DestinationChanges(...)"


class DestinationsController(Controller):
    """Outbound destinations."""

    path = "/v1/admin/webhooks"
    tags = ["Destinations"]  # noqa: RUF012 - litestar reads class attributes
    security = [{"adminKey": []}]  # noqa: RUF012

    @post(
        guards=[admin_only],
        operation_id="createDestination",
        summary="Make a destination",
        responses=documented(400, 401, 403, 413, 429, 503),
    )
    async def create(
        self, data: JSONBody[NewDestination], bus: TheBus, request: AnyRequest
    ) -> OutboundDestination:
        """Make a destination; engagement is kept for it from now on."""
        new = CreateDestination(
            url=data.url,
            event_types=data.event_types,
            description=data.description,
            disabled=data.disabled,
            kind=data.kind,
            config=data.config,
        )
        return await bus.request(ANALYTICS_CREATE_DESTINATION, new, headers=correlation(request))

    @get(
        guards=[admin_or_reader],
        operation_id="listDestinations",
        summary="List destinations",
        responses=documented(400, 401, 403, 429, 503),
    )
    async def page(
        self,
        bus: TheBus,
        request: AnyRequest,
        include_disabled: Annotated[bool, QueryParameter(name="includeDisabled")] = True,
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> DestinationPage:
        """List destinations, oldest first, keys masked."""
        wanted = ListDestinations(limit=limit, offset=offset, include_disabled=include_disabled)
        return await bus.request(ANALYTICS_LIST_DESTINATIONS, wanted, headers=correlation(request))

    @get(
        "/{id:uuid}",
        guards=[admin_or_reader],
        operation_id="getDestination",
        summary="Show a destination",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def show(
        self, id: FromPath[UUID], bus: TheBus, request: AnyRequest
    ) -> OutboundDestination:
        """Show a destination, keys masked."""
        wanted = DestinationRef(str(id))
        return await bus.request(ANALYTICS_GET_DESTINATION, wanted, headers=correlation(request))

    @patch(
        "/{id:uuid}",
        guards=[admin_only],
        operation_id="updateDestination",
        summary="Change a destination",
        responses=documented(400, 401, 403, 404, 413, 429, 503),
    )
    async def change(
        self,
        id: FromPath[UUID],
        data: JSONBody[DestinationChanges],
        bus: TheBus,
        request: AnyRequest,
    ) -> OutboundDestination:
        """Change what is given and leave the rest."""
        wanted = ChangeDestination(
            id=str(id),
            url=data.url,
            event_types=data.event_types,
            description=data.description,
            disabled=data.disabled,
            config=data.config,
        )
        return await _change(bus, wanted, request)

    @delete(
        "/{id:uuid}",
        guards=[admin_only],
        status_code=200,
        operation_id="deleteDestination",
        summary="Delete a destination",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def remove(self, id: FromPath[UUID], bus: TheBus, request: AnyRequest) -> Deleted:
        """Delete a destination, its history, and what waits for it."""
        wanted = DestinationRef(str(id))
        return await bus.request(ANALYTICS_DELETE_DESTINATION, wanted, headers=correlation(request))

    @post(
        "/{id:uuid}/pause",
        guards=[admin_only],
        status_code=200,
        operation_id="pauseDestination",
        summary="Pause a destination",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def pause(
        self, id: FromPath[UUID], bus: TheBus, request: AnyRequest
    ) -> OutboundDestination:
        """Discard what would be sent, until it is resumed."""
        return await _change(bus, ChangeDestination(id=str(id), disabled=True), request)

    @post(
        "/{id:uuid}/resume",
        guards=[admin_only],
        status_code=200,
        operation_id="resumeDestination",
        summary="Resume a destination",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def resume(
        self, id: FromPath[UUID], bus: TheBus, request: AnyRequest
    ) -> OutboundDestination:
        """Send again, from now on."""
        return await _change(bus, ChangeDestination(id=str(id), disabled=False), request)

    @post(
        "/{id:uuid}/test",
        guards=[admin_only],
        status_code=202,
        operation_id="testDestination",
        summary="Send a test event",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def test(self, id: FromPath[UUID], bus: TheBus, request: AnyRequest) -> TestQueued:
        """Send `webhook.test` to this destination only."""
        wanted = DestinationRef(str(id))
        return await bus.request(ANALYTICS_TEST_DESTINATION, wanted, headers=correlation(request))

    @get(
        "/{id:uuid}/deliveries",
        guards=[admin_or_reader],
        operation_id="listDestinationDeliveries",
        summary="List what was sent",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def deliveries(  # noqa: PLR0917 - one parameter a query key
        self,
        id: FromPath[UUID],
        bus: TheBus,
        request: AnyRequest,
        status: Annotated[DeliveryStatus | None, QueryParameter()] = None,
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> DeliveryPage:
        """List what became of a destination's newest events, the newest first."""
        wanted = ListDeliveries(id=str(id), status=status, limit=limit, offset=offset)
        return await bus.request(ANALYTICS_DELIVERIES, wanted, headers=correlation(request))

    @post(
        "/{id:uuid}/rotate-secret",
        guards=[admin_only],
        status_code=200,
        operation_id="rotateDestinationSecret",
        summary="Rotate a signing secret",
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def rotate_secret(
        self, id: FromPath[UUID], bus: TheBus, request: AnyRequest
    ) -> OutboundDestination:
        """Always refused: destinations of kind `posthog` are not signed."""
        await self.show.fn(self, id, bus, request)
        raise InvalidRequest("a destination of kind 'posthog' is not signed; it has no secret")


async def _change(
    bus: Connection, wanted: ChangeDestination, request: AnyRequest
) -> OutboundDestination:
    return await bus.request(ANALYTICS_CHANGE_DESTINATION, wanted, headers=correlation(request))
