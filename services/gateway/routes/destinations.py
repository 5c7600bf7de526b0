"""`/v1/admin/webhooks`: outbound destinations (contract 6.6); see `docs/destinations.md`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.exceptions import ClientException
from litestar.params import JSONBody, PathParameter, QueryParameter

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
    DestinationRef,
    ListDeliveries,
    ListDestinations,
    OutboundDestination,
    TestQueued,
)
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_only, admin_or_reader
from services.gateway.error_responses import ErrorBody, admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Limit, Offset

NO_WEBHOOKS = (
    "nothing is sent to addresses of yours: subscribe to events on NATS, "
    '`client.events("signed_up", durable="welcome")`; a destination that captures in PostHog is '
    'created with `"kind": "posthog"`'
)

DestinationId = Annotated[UUID, PathParameter(description="Id of the destination.")]
INCLUDE_DISABLED = QueryParameter(
    name="includeDisabled", description="Whether paused destinations are listed too."
)
STATUS = QueryParameter(
    description="Only deliveries with this outcome; see `status` of the response."
)
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
EventTypes = Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]
Description = Annotated[str, msgspec.Meta(max_length=500)]


class NewDestination(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A destination to create."""

    url: Url
    """Any URL, for example `posthog://capture`. No request is sent to it."""
    event_types: EventTypes
    """Types of engagement to capture in PostHog, for example `email.opened`."""
    description: Description | None = None
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    """False by default: the destination is active."""
    kind: DestinationKind | msgspec.UnsetType = msgspec.UNSET
    """`posthog` is the only kind. It is required if `url` is an http or https address."""
    config: Properties = {}
    """`apiKey`, `host`, `eventNames`, `syncPersons`, `unsubscribedPropertyKey`."""

    def __repr__(self) -> str:
        """Show no field: the config may hold a key."""
        return "NewDestination(...)"


class DestinationChanges(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Fields to change. Missing fields are kept.

    A `config` is merged into the stored one (RFC 7396).
    """

    url: Url | msgspec.UnsetType = msgspec.UNSET
    """Any URL. No request is sent to it."""
    event_types: EventTypes | msgspec.UnsetType = msgspec.UNSET
    """Types of engagement to capture, for example `email.opened`. Replaces the stored list."""
    description: Description | msgspec.UnsetType | None = msgspec.UNSET
    """null removes the description."""
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    """`true` pauses the destination, which discards its events until it is resumed."""
    kind: DestinationKind | msgspec.UnsetType = msgspec.UNSET
    """Has no effect, because there is only one kind."""
    config: Properties | msgspec.UnsetType = msgspec.UNSET
    """Keys to change. null removes a key; `***` as `apiKey` keeps the stored key."""

    def __repr__(self) -> str:
        """Show no field: the config may hold a key."""
        return "DestinationChanges(...)"


class ShownDestination(OutboundDestination, frozen=True, kw_only=True):
    """A destination, with fields that upstream's command and client expect (correction C11)."""

    status: Literal["enabled", "disabled"]
    """The same as `disabled`."""
    organization_id: None = None
    """Always null."""


class DestinationList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of destinations, and the total number of matches."""

    webhooks: list[ShownDestination]
    endpoints: list[ShownDestination]
    """The same as `webhooks`, under the name that upstream's command and client expect."""
    total: int
    """Number of destinations on all pages."""
    limit: int
    offset: int


def _shown(destination: OutboundDestination) -> ShownDestination:
    return ShownDestination(
        **msgspec.structs.asdict(destination),
        status="disabled" if destination.disabled else "enabled",
    )


class DestinationsController(Controller):
    """Outbound destinations."""

    path = "/v1/admin/webhooks"
    tags = ("Destinations",)
    security = ADMIN_SECURITY

    @post(
        guards=[admin_only],
        operation_id="createDestination",
        summary="Create a destination",
        responses=admin_errors(400, 413),
    )
    async def create_destination(
        self,
        data: JSONBody[NewDestination],
        bus: NamedDependency[Connection],
    ) -> ShownDestination:
        """Create a destination. It receives engagement that is published from now on."""
        # Upstream's clients omit `kind` to create a webhook that is posted to `url`.
        if data.kind is msgspec.UNSET and data.url.lower().startswith(("http:", "https:")):
            raise ClientException(NO_WEBHOOKS)
        new = CreateDestination(
            url=data.url,
            event_types=data.event_types,
            description=data.description,
            disabled=bool(data.disabled),
            kind=data.kind or "posthog",
            config=data.config,
        )
        return _shown(await bus.request(ANALYTICS_CREATE_DESTINATION, new))

    @get(
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="listDestinations",
        summary="List destinations",
        responses=admin_errors(400),
    )
    async def list_destinations(
        self,
        bus: NamedDependency[Connection],
        include_disabled: Annotated[bool, INCLUDE_DISABLED] = True,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> DestinationList:
        """List destinations, newest first. Their keys are masked."""
        query = ListDestinations(limit=limit, offset=offset, include_disabled=include_disabled)
        page = await bus.request(ANALYTICS_LIST_DESTINATIONS, query)
        shown = [_shown(destination) for destination in page.webhooks]
        return DestinationList(
            webhooks=shown,
            endpoints=shown,
            total=page.total,
            limit=page.limit,
            offset=page.offset,
        )

    @get(
        "/{id:uuid}",
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="getDestination",
        summary="Show a destination",
        responses=admin_errors(400, 404),
    )
    async def get_destination(
        self,
        id: DestinationId,
        bus: NamedDependency[Connection],
    ) -> ShownDestination:
        """Show a destination. Its key is masked."""
        return _shown(await bus.request(ANALYTICS_GET_DESTINATION, DestinationRef(str(id))))

    @patch(
        "/{id:uuid}",
        guards=[admin_only],
        operation_id="updateDestination",
        summary="Update a destination",
        responses=admin_errors(400, 404, 413),
    )
    async def update_destination(
        self,
        id: DestinationId,
        data: JSONBody[DestinationChanges],
        bus: NamedDependency[Connection],
    ) -> ShownDestination:
        """Change the given fields. All replicas use them when the response is sent.

        `config` is merged into the stored one (RFC 7396): fields that it does not name are kept,
        null removes a field, and the `apiKey` `***` stands for the stored key. To change `host`,
        give the `apiKey` for that host as well.
        """
        change = ChangeDestination(
            id=str(id),
            url=data.url,
            event_types=data.event_types,
            description=data.description,
            disabled=data.disabled,
            config=data.config,
        )
        return _shown(await bus.request(ANALYTICS_CHANGE_DESTINATION, change))

    @delete(
        "/{id:uuid}",
        guards=[admin_only],
        status_code=200,
        operation_id="deleteDestination",
        summary="Delete a destination",
        responses=admin_errors(400, 404),
    )
    async def delete_destination(
        self, id: DestinationId, bus: NamedDependency[Connection]
    ) -> Deleted:
        """Delete a destination, its history, and the events queued for it."""
        return await bus.request(ANALYTICS_DELETE_DESTINATION, DestinationRef(str(id)))

    @post(
        "/{id:uuid}/pause",
        guards=[admin_only],
        status_code=200,
        operation_id="pauseDestination",
        summary="Pause a destination",
        responses=admin_errors(400, 404),
    )
    async def pause_destination(
        self,
        id: DestinationId,
        bus: NamedDependency[Connection],
    ) -> ShownDestination:
        """Discard the destination's events until it is resumed."""
        change = ChangeDestination(id=str(id), disabled=True)
        return _shown(await bus.request(ANALYTICS_CHANGE_DESTINATION, change))

    @post(
        "/{id:uuid}/resume",
        guards=[admin_only],
        status_code=200,
        operation_id="resumeDestination",
        summary="Resume a destination",
        responses=admin_errors(400, 404),
    )
    async def resume_destination(
        self,
        id: DestinationId,
        bus: NamedDependency[Connection],
    ) -> ShownDestination:
        """Send the destination events from now on."""
        change = ChangeDestination(id=str(id), disabled=False)
        return _shown(await bus.request(ANALYTICS_CHANGE_DESTINATION, change))

    @post(
        "/{id:uuid}/test",
        guards=[admin_only],
        status_code=202,
        operation_id="testDestination",
        summary="Send a test event",
        responses=admin_errors(400, 404),
    )
    async def test_destination(
        self, id: DestinationId, bus: NamedDependency[Connection]
    ) -> TestQueued:
        """Send the event `webhook.test` to this destination only."""
        return await bus.request(ANALYTICS_TEST_DESTINATION, DestinationRef(str(id)))

    @get(
        "/{id:uuid}/deliveries",
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="listDestinationDeliveries",
        summary="List deliveries",
        responses=admin_errors(400, 404),
    )
    async def list_destination_deliveries(
        self,
        id: DestinationId,
        bus: NamedDependency[Connection],
        status: Annotated[DeliveryStatus | None, STATUS] = None,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> DeliveryPage:
        """List the deliveries of a destination's events and their outcomes, newest first."""
        query = ListDeliveries(id=str(id), status=status, limit=limit, offset=offset)
        return await bus.request(ANALYTICS_DELIVERIES, query)

    @post(
        "/{id:uuid}/rotate-secret",
        guards=[admin_only],
        status_code=400,
        operation_id="rotateDestinationSecret",
        summary="Rotate a signing secret",
        responses=admin_errors(400, 404),
    )
    async def rotate_destination_secret(
        self,
        id: DestinationId,
        bus: NamedDependency[Connection],
    ) -> ErrorBody:
        """Always refused: destinations of kind `posthog` are not signed."""
        await bus.request(ANALYTICS_GET_DESTINATION, DestinationRef(str(id)))
        raise ClientException("a destination of kind 'posthog' is not signed; it has no secret")
