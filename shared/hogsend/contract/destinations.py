"""Outbound destinations: what `/v1/admin/webhooks` exchanges (contract 6.6)."""

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
    """Make a destination."""

    url: str
    """Must be a URL; a `posthog` destination never asks it."""
    event_types: Annotated[list[str], msgspec.Meta(min_length=1)]
    description: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    disabled: bool = False
    kind: DestinationKind = "posthog"
    config: dict[str, Any] = {}
    """`apiKey`, `host`, `eventNames`, `syncPersons`, `unsubscribedPropertyKey`."""

    def __repr__(self) -> str:
        """Name the kind; the config may hold a key."""
        return f"CreateDestination(kind={self.kind!r})"


class ChangeDestination(Message, frozen=True, kw_only=True):
    """Change what is given.

    `config` is merged into the stored one (RFC 7396): what it does not name stays, null removes,
    and an `apiKey` of `***` is the stored one. A change of `host` needs the `apiKey` that belongs
    to it.
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
        """Name the destination; the config may hold a key."""
        return f"ChangeDestination(id={self.id!r})"


class DestinationRef(Message, frozen=True):
    """Which destination is meant."""

    id: str


class ListDestinations(Message, frozen=True, kw_only=True):
    """A page of destinations, newest first."""

    limit: Limit = 50
    offset: Offset = 0
    include_disabled: bool = True


class OutboundDestination(Message, frozen=True, kw_only=True):
    """A destination as it may be shown: keys are `***`."""

    id: str
    url: str
    kind: DestinationKind
    description: str | None
    event_types: list[str]
    config: dict[str, Any]
    secret_prefix: None = None
    disabled: bool
    last_delivery_at: datetime | None
    created_at: datetime
    updated_at: datetime


class DestinationPage(Message, frozen=True, kw_only=True):
    """A page of destinations, and how many match in all."""

    webhooks: list[OutboundDestination]
    total: int
    limit: int
    offset: int


class TestQueued(Message, frozen=True):
    """A test event is on its way."""

    enqueued: Literal[True] = True
    event_type: Literal["webhook.test"] = "webhook.test"


class ListDeliveries(Message, frozen=True, kw_only=True):
    """A page of a destination's delivery history, newest first."""

    id: str
    status: DeliveryStatus | None = None
    limit: Limit = 50
    offset: Offset = 0


class Delivered(Message, frozen=True, kw_only=True):
    """What became of one event at one destination."""

    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    error: str | None
    finished_at: datetime


class Retrying(Message, frozen=True, kw_only=True):
    """The latest attempt for a destination whose events PostHog does not take."""

    since: datetime
    """Of the first attempt that failed, with none that succeeded after it."""
    attempts: int | None
    """So far, of the event that was tried most often."""
    response_status: int | None
    """What PostHog answered; null without an answer."""
    error: str | None
    tried_at: datetime | None
    next_attempt_at: datetime | None
    """Null when these events are not tried again; those after them are."""


class DeliveryPage(Message, frozen=True, kw_only=True):
    """A page of delivery history, and how many match in all."""

    deliveries: list[Delivered]
    total: int
    limit: int
    offset: int
    retrying: Retrying | None = None
    """What fails at present, and is in the history only at its end.

    Null for a destination that is paused, and for one that was changed since its latest attempt.
    """


class EventDeliveriesOf(Message, frozen=True, kw_only=True):
    """Whose deliveries are meant."""

    event_ids: Annotated[list[str], msgspec.Meta(max_length=10)]
    """Ids of one event; any of them may be in a destination's history."""


class EventDelivery(Delivered, frozen=True, kw_only=True):
    """What became of an event at a destination, which is named."""

    destination_id: str
    description: str | None


class EventDeliveries(Message, frozen=True, kw_only=True):
    """What became of one event at every destination that has it in its history."""

    deliveries: list[EventDelivery]


class EngagementReaders(Message, frozen=True):
    """Durables of ENGAGEMENT that analytics wants, there or not."""

    durables: list[str]


ANALYTICS_CREATE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="create-destination",
    request=CreateDestination,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="Make an outbound destination.",
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
    summary="What became of one event at every destination.",
)
ANALYTICS_ENGAGEMENT_READERS = Endpoint(
    service=User.ANALYTICS,
    verb="engagement-readers",
    request=Empty,
    reply=EngagementReaders,
    callers=(User.INGEST,),
    summary="Durables that read engagement, also those that are missing at the moment.",
)
