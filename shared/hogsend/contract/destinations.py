"""Outbound destinations and their deliveries, as in `/v1/admin/webhooks` (contract 6.6)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from hogsend.contract.base import Empty, Limit, Message, Offset
from hogsend.contract.credentials import Deleted
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

DestinationKind = Literal["posthog"]
DeliveryStatus = Literal["delivered", "skipped", "failed", "discarded"]


class CreateDestination(Message, frozen=True, kw_only=True):
    """Create a destination."""

    url: str
    """Must be a URL. A `posthog` destination sends no request to it."""
    event_types: Annotated[list[str], msgspec.Meta(min_length=1)]
    description: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    disabled: bool = False
    kind: DestinationKind = "posthog"
    config: dict[str, Any] = {}
    """`apiKey`, `host`, `eventNames`, `syncPersons`, `unsubscribedPropertyKey`."""

    def __repr__(self) -> str:
        """Hide the config, which may contain a key."""
        return f"CreateDestination(kind={self.kind!r})"


class ChangeDestination(Message, frozen=True, kw_only=True):
    """Change the given fields of a destination.

    `config` is merged into the stored one (RFC 7396): absent keys stay, null removes a key, and
    `***` as `apiKey` keeps the stored key. A change of `host` requires the `apiKey` of that host.
    """

    id: str
    url: str | msgspec.UnsetType = msgspec.UNSET
    event_types: Annotated[list[str], msgspec.Meta(min_length=1)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    description: Annotated[str, msgspec.Meta(max_length=500)] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    config: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        """Hide the config, which may contain a key."""
        return f"ChangeDestination(id={self.id!r})"


class DestinationRef(Message, frozen=True):
    """Identifies a destination."""

    id: str


class ListDestinations(Message, frozen=True, kw_only=True):
    """List destinations, newest first."""

    limit: Limit = 50
    offset: Offset = 0
    include_disabled: bool = True


class OutboundDestination(Message, frozen=True, kw_only=True):
    """A destination with its keys masked as `***`."""

    id: str
    url: str
    """No request is sent to it."""
    kind: DestinationKind
    description: str | None
    event_types: list[str]
    """Types of engagement that are captured in PostHog, for example `email.opened`."""
    config: dict[str, Any]
    """`apiKey`, `host`, `eventNames`, `syncPersons`, `unsubscribedPropertyKey`."""
    secret_prefix: None = None
    """Always null: nothing is signed."""
    disabled: bool
    """Whether the destination is paused. A paused destination discards its events."""
    last_delivery_at: datetime | None
    """When an event was last delivered; None before the first one."""
    created_at: datetime
    updated_at: datetime


class DestinationPage(Message, frozen=True, kw_only=True):
    """A page of destinations, and the number of matching ones on all pages."""

    webhooks: list[OutboundDestination]
    total: int
    limit: int
    offset: int


class TestQueued(Message, frozen=True):
    """A test event was queued."""

    # Without defaults, so that the `{}` of another server is not read as success.
    enqueued: Literal[True]
    event_type: Literal["webhook.test"]


class ListDeliveries(Message, frozen=True, kw_only=True):
    """List the delivery history of a destination, newest first."""

    id: str
    status: DeliveryStatus | None = None
    limit: Limit = 50
    offset: Offset = 0


class Delivered(Message, frozen=True, kw_only=True):
    """The final result of delivering one event to one destination."""

    event_id: str
    """Id of the event, the same for every attempt."""
    event_type: str
    """Type of the engagement, for example `email.opened`."""
    status: DeliveryStatus
    """`skipped`: the configuration of the destination excludes the event. `failed`: the event
    became a dead letter. `discarded`: it was not sent, because the destination was paused or had no
    project key, or the person was erased."""
    attempts: int
    response_status: int | None
    """HTTP status of PostHog's last response; None without a response."""
    error: str | None
    """Why the delivery failed; None if it did not."""
    finished_at: datetime


class Retrying(Message, frozen=True, kw_only=True):
    """The latest failed attempt of a destination whose deliveries fail at present."""

    since: datetime
    """When the first attempt failed after the last successful one."""
    attempts: int | None
    """Number of attempts so far for the event that was tried most often."""
    response_status: int | None
    """HTTP status of PostHog's response; null without a response."""
    error: str | None
    """The error, in words."""
    tried_at: datetime | None
    """When the latest attempt was made."""
    next_attempt_at: datetime | None
    """When the same events are tried next; null if they are not, and only later events are."""


class DeliveryPage(Message, frozen=True, kw_only=True):
    """A page of delivery history, and the number of matching deliveries on all pages."""

    deliveries: list[Delivered]
    total: int
    """Number of matching deliveries on all pages."""
    limit: int
    offset: int
    retrying: Retrying | None = None
    """The delivery that fails at present; it enters the history when it is finished.

    Null for a paused destination, and for one that was changed since its latest attempt.
    """


class EventDeliveriesOf(Message, frozen=True, kw_only=True):
    """List the deliveries of one event."""

    event_ids: Annotated[list[str], msgspec.Meta(max_length=10)]
    """Ids of the event. A destination's history may name it by any of them."""


class EventDelivery(Delivered, frozen=True, kw_only=True):
    """The final result of delivering an event to the named destination."""

    destination_id: str
    description: str | None
    """Description of the destination."""


class EventDeliveries(Message, frozen=True, kw_only=True):
    """The deliveries of one event, of every destination that has it in its history."""

    deliveries: list[EventDelivery]


class EngagementReaders(Message, frozen=True):
    """Durable consumers on ENGAGEMENT that analytics needs, whether or not they exist."""

    durables: list[str]


ANALYTICS_CREATE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="create-destination",
    request=CreateDestination,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="Create an outbound destination.",
    changes=True,
)
ANALYTICS_LIST_DESTINATIONS = Endpoint(
    service=User.ANALYTICS,
    verb="destinations",
    request=ListDestinations,
    reply=DestinationPage,
    callers=(User.GATEWAY,),
    summary="A page of outbound destinations, keys masked.",
)
ANALYTICS_GET_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="destination",
    request=DestinationRef,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="One outbound destination, keys masked.",
)
ANALYTICS_CHANGE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="change-destination",
    request=ChangeDestination,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="Change, pause or resume an outbound destination.",
    changes=True,
    resource="id",
)
ANALYTICS_DELETE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="delete-destination",
    request=DestinationRef,
    reply=Deleted,
    callers=(User.GATEWAY,),
    summary="Delete an outbound destination.",
    changes=True,
    resource="id",
)
ANALYTICS_TEST_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="test-destination",
    request=DestinationRef,
    reply=TestQueued,
    callers=(User.GATEWAY,),
    summary="Send a test event to one destination.",
    changes=True,
    resource="id",
)
ANALYTICS_DELIVERIES = Endpoint(
    service=User.ANALYTICS,
    verb="deliveries",
    request=ListDeliveries,
    reply=DeliveryPage,
    callers=(User.GATEWAY,),
    summary="A destination's delivery history.",
)
ANALYTICS_EVENT_DELIVERIES = Endpoint(
    service=User.ANALYTICS,
    verb="event-deliveries",
    request=EventDeliveriesOf,
    reply=EventDeliveries,
    callers=(User.GATEWAY,),
    summary="The deliveries of one event to all destinations.",
)
ANALYTICS_ENGAGEMENT_READERS = Endpoint(
    service=User.ANALYTICS,
    verb="engagement-readers",
    request=Empty,
    reply=EngagementReaders,
    callers=(User.INGEST,),
    summary="Durable consumers that read engagement, including those that do not exist now.",
)
